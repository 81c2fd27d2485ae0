//! A child's process group, which is killed when it is dropped.

/// The process group of a child. Dropping it kills the group, unless [`Group::forget`] was called.
pub struct Group {
    #[cfg(unix)]
    leader: Option<rustix::process::Pid>,
}

impl Group {
    pub fn of(child: &tokio::process::Child) -> Self {
        #[cfg(unix)]
        return Self {
            leader: child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw),
        };
        #[cfg(not(unix))]
        {
            let _ = child;
            Self {}
        }
    }

    /// Sends SIGTERM to every process of the group. Does nothing on Windows, which has no such signal.
    pub fn terminate(&self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends SIGINT to the leader only. Does nothing on Windows.
    pub fn interrupt_leader(&self) {
        #[cfg(unix)]
        if let Some(leader) = self.leader {
            let _ = rustix::process::kill_process(leader, rustix::process::Signal::INT);
        }
    }

    /// Kills every process of the group.
    pub fn kill(&self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::KILL);
    }

    /// Keeps the group from being killed when this is dropped.
    pub fn forget(&mut self) {
        #[cfg(unix)]
        {
            self.leader = None;
        }
    }

    #[cfg(unix)]
    fn signal(&self, signal: rustix::process::Signal) {
        // An empty group is reported as an error, which is expected.
        if let Some(leader) = self.leader {
            let _ = rustix::process::kill_process_group(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
