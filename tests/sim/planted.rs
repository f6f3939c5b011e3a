//! Bugs that are planted.
