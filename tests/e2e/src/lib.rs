//! End-to-end tests: one binary, `tests/e2e`, so that a change links once. One file a promise to a user, in two groups:
//! `together` holds what waits for conditions and can run side by side, `alone` what measures time or fills the machine.
