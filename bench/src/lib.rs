//! Generates Iggy data, verifies reads and measures Kennel.
