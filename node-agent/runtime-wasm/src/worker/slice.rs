//! How the kernel shares cores between the threads of guests: their priority, and how long one runs before another that
//! wakes up gets its turn.

use std::time::Duration;

/// Sets the calling thread's nice value and time slice.
///
/// Slices of one's own exist since Linux 6.12 (100 µs to 100 ms); older kernels take the nice value alone. What they do:
/// [`limits::COMMAND_SLICE`](crate::limits::COMMAND_SLICE).
///
/// # Errors
/// The kernel's; raising one's own nice value is always allowed.
pub(super) fn run_in_slices(nice: i32, slice: Duration) -> std::io::Result<()> {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: slice.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    #[expect(
        unsafe_code,
        reason = "no crate in use has this call; the kernel reads the structure, of the size that it states, and keeps nothing"
    )]
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calling_thread_alone_steps_back() {
        std::thread::spawn(|| {
            run_in_slices(7, Duration::from_micros(300)).expect("allowed");
            assert_eq!(rustix::process::getpriority_process(None).expect("own"), 7);
        })
        .join()
        .expect("no panic");
        assert_ne!(rustix::process::getpriority_process(None).expect("own"), 7);
    }
}
