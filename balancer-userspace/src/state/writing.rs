//! A file that is written beside other work: a disk takes milliseconds, in which tables are computed and tried.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use anyhow::Result;

/// A write that has begun.
#[derive(Debug)]
pub struct Writing(Option<JoinHandle<Result<()>>>, Result<()>);

impl Writing {
    /// Where there is no room for another thread, it is written at once.
    pub(super) fn begin(write: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        let write = Arc::new(write);
        let beside = Arc::clone(&write);
        match Builder::new().name("disk".to_owned()).spawn(move || beside()) {
            Ok(thread) => Self(Some(thread), Ok(())),
            Err(_) => Self(None, write()),
        }
    }

    /// Waits until it is over.
    ///
    /// # Errors
    /// Where it is not on disk.
    pub fn end(self) -> Result<()> {
        match self.0 {
            Some(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => self.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn whoever_waits_hears_how_it_ended() {
        assert!(Writing::begin(|| Ok(())).end().is_ok());
        assert!(
            Writing::begin(|| bail!("No space left on device")).end().unwrap_err().to_string().contains("No space")
        );
    }
}
