//! Building many tables at once: each is computed alone, so all processors help.

use std::thread;

/// `build` of every item, in order.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], build: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    if items.len() < 2 || threads < 2 {
        return items.iter().map(build).collect();
    }
    let build = &build;
    thread::scope(|scope| {
        let chunks = items.chunks(items.len().div_ceil(threads));
        let workers: Vec<_> =
            chunks.map(|part| scope.spawn(move || part.iter().map(build).collect::<Vec<_>>())).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
