//! The write-ahead log of a database on disk: makes what was written survive a power failure.
//!
//! The engine would wait for the disk in each write, one after the other, while it holds its lock. Here it only writes,
//! and each caller waits for a flush of the log that began after its write. One flush serves all who wait.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tokio::sync::Mutex;

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    file: Arc<File>,
    /// The number of writes so far.
    written: AtomicU64,
    /// How many of them are on the disk. Whoever holds it may flush.
    flushed: Mutex<u64>,
}

impl Log {
    /// Opens the log of a database file. The database must be open already, in mode WAL.
    pub(crate) fn open(database: &Path) -> io::Result<Self> {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        let file = Arc::new(File::options().write(true).open(path)?);
        Ok(Self { file, written: AtomicU64::new(0), flushed: Mutex::new(0) })
    }

    /// Waits until what was written before this call is on the disk.
    pub(crate) async fn flush(&self) -> io::Result<()> {
        let mine = self.written.fetch_add(1, SeqCst) + 1;
        let mut flushed = self.flushed.lock().await;
        if *flushed >= mine {
            return Ok(());
        }
        let (all, file) = (self.written.load(SeqCst), self.file.clone());
        tokio::task::spawn_blocking(move || file.sync_data()).await.map_err(io::Error::other)??;
        *flushed = all;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn one_flush_serves_all_who_wait() {
        let directory = std::env::temp_dir().join(format!("log-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("d-wal"), "x").unwrap();
        let log = Log::open(&directory.join("d")).unwrap();
        assert!(join_all((0..10).map(|_| log.flush())).await.iter().all(Result::is_ok));
        // The first flush may have begun before the others came. The second served all of them.
        assert_eq!(*log.flushed.lock().await, 10);
        log.flush().await.unwrap();
        assert_eq!(*log.flushed.lock().await, 11);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
