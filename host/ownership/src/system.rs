//! What the kernel knows of this machine and its processes.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use fs_err as fs;

/// The random id of this start of the machine; empty where it is not known.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// When the process `pid` was started, in clock ticks since the machine was; `None` where it is gone or has ended.
pub(crate) fn started(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, which may hold anything.
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// By which pids of this process's world are told from those of another container.
pub(crate) fn pid_namespace() -> String {
    fs::read_link("/proc/self/ns/pid").unwrap_or_default().to_string_lossy().into_owned()
}

/// The number of users that are none of this user namespace; 65534 where it is not known.
pub(crate) fn overflow_uid() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap_or_default();
    text.trim().parse().unwrap_or(65534)
}

/// 128 random bits as hex digits: the seeds of hash maps, which come from the system's random numbers.
pub(crate) fn random_word() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
