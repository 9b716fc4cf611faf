//! Starts and watches real Weft processes for tests.
