//! A file that is written beside other work: a disk takes milliseconds, in which tables are computed and tried.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver, SendError, Sender};
use std::thread::Builder;

use anyhow::{Result, anyhow};

type Job = Box<dyn FnOnce() + Send>;

/// One thread for all, made while there is memory: a new thread that gets no stack for its signals ends the process.
static THREAD: LazyLock<Option<Sender<Job>>> = LazyLock::new(|| {
    let (sender, jobs) = mpsc::channel::<Job>();
    // A panic is the end of that job, and told to whoever waits for it; others go on.
    let run = move || jobs.into_iter().for_each(|job| drop(catch_unwind(AssertUnwindSafe(job))));
    Builder::new().name("disk".to_owned()).spawn(run).ok().map(|_| sender)
});

/// Makes the thread, where that was not done before.
pub(super) fn prepare() {
    LazyLock::force(&THREAD);
}

/// A write that has begun.
#[derive(Debug)]
pub struct Writing(Receiver<Result<()>>);

impl Writing {
    /// Where there is no other thread, it is written at once.
    pub(super) fn begin(write: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        let (done, outcome) = mpsc::channel();
        let job: Job = Box::new(move || {
            // Whoever does not wait does not want to know.
            let _ = done.send(write());
        });
        match &*THREAD {
            Some(thread) => {
                if let Err(SendError(job)) = thread.send(job) {
                    job();
                }
            }
            None => job(),
        }
        Self(outcome)
    }

    /// Waits until it is over.
    ///
    /// # Errors
    /// Where it is not on disk.
    pub fn end(self) -> Result<()> {
        self.0.recv().unwrap_or_else(|_| Err(anyhow!("whoever wrote it came to an unexpected end")))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn whoever_waits_hears_how_it_ended() {
        prepare();
        assert!(Writing::begin(|| Ok(())).end().is_ok());
        assert!(
            Writing::begin(|| bail!("No space left on device")).end().unwrap_err().to_string().contains("No space")
        );
        assert!(Writing::begin(|| panic!("on purpose")).end().is_err());
        assert!(Writing::begin(|| Ok(())).end().is_ok());
    }
}
