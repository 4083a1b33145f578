//! Vectors and refusals that need no chip.
