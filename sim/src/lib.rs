//! The world in a box: runs whole clusters of the core machines from one seed.
