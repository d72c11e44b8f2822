//! Shared helpers of the protocol tests.
