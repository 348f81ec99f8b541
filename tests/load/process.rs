//! Reads from Linux what a process uses.

use std::time::Duration;

use crate::Failure;

/// The resident memory of a process.
pub(crate) fn resident_bytes(process: u32) -> Result<u64, Failure> {
    status(process, "VmRSS:")
}

/// The highest resident memory of a process.
pub(crate) fn peak_bytes(process: u32) -> Result<u64, Failure> {
    status(process, "VmHWM:")
}

/// The number of threads of a process.
pub(crate) fn threads(process: u32) -> Result<u64, Failure> {
    Ok(field(process, "Threads:")?.parse()?)
}

fn status(process: u32, name: &str) -> Result<u64, Failure> {
    Ok(field(process, name)?.trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn field(process: u32, name: &str) -> Result<String, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = status.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name}"))?;
    Ok(field.trim().to_owned())
}

/// The processor time of a process, to 10 ms.
pub(crate) fn processor_time(process: u32) -> Result<Duration, Failure> {
    // User and system time, in ticks of 10 ms.
    Ok(Duration::from_millis(10 * (stat(process, 11)? + stat(process, 12)?)))
}

/// The number of times that a process has waited for a page of its program or of a mapped file to be read from the disk.
pub(crate) fn major_faults(process: u32) -> Result<u64, Failure> {
    stat(process, 9)
}

/// Returns a number of `/proc/<process>/stat`, by its place behind the name. The name may contain anything.
fn stat(process: u32, place: usize) -> Result<u64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
    Ok(fields.split_whitespace().nth(place).ok_or("a field is missing in stat")?.parse()?)
}

/// The processor time of an idle process, to the nanosecond. All its threads must still run. The time of a thread is
/// updated when the thread stops.
pub(crate) fn processor_time_at_rest(process: u32) -> Result<Duration, Failure> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let schedule = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += schedule.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The time since the start that the host of this virtual machine gave to others while a program was ready to run, over all
/// processors, to 10 ms. Always 0 if the host does not tell.
pub(crate) fn stolen_time() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let stolen = stat.split_whitespace().nth(8).ok_or("no stolen time in /proc/stat")?;
    Ok(Duration::from_millis(10 * stolen.parse::<u64>()?))
}

/// Converts bytes to MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Describes the machine in one line.
pub(crate) fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} x {}, Linux {}", cores, model.unwrap_or("an unknown processor"), kernel.trim())
}
