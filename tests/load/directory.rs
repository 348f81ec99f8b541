//! Where the server has its data: in memory, or in a directory that is removed at the end.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

/// Where the data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Data {
    /// In memory
    Memory,
    /// In a new directory, with `--data`
    Disk,
}

/// A directory for the data of one run.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("load-{}", std::process::id())))
    }

    /// The arguments of the server.
    pub(crate) fn arguments(&self, data: Data) -> Vec<String> {
        match data {
            Data::Memory => Vec::new(),
            Data::Disk => vec!["--data".to_owned(), self.0.display().to_string()],
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // It does not exist if the data was in memory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
