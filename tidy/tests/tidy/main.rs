//! The repository's walls as tests: what a person would otherwise have to remember in every review.

mod repository;
mod shape;
mod wall;
