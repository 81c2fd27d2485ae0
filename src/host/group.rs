//! A child's process group, which ends when nobody waits for it any more.

/// The group that a child leads. Dropped without [`Group::forget`], it is killed.
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

    /// Asks every process of the group to end. Nothing on Windows, where there is no such request.
    pub fn terminate(&self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::TERM);
    }

    /// Interrupts the leader alone, as Ctrl-C would. Nothing on Windows.
    pub fn interrupt_leader(&self) {
        #[cfg(unix)]
        if let Some(leader) = self.leader {
            let _ = rustix::process::kill_process(leader, rustix::process::Signal::INT);
        }
    }

    /// Ends every process of the group.
    pub fn kill(&self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::KILL);
    }

    /// Leaves the group alone from here on.
    pub fn forget(&mut self) {
        #[cfg(unix)]
        {
            self.leader = None;
        }
    }

    #[cfg(unix)]
    fn signal(&self, signal: rustix::process::Signal) {
        // A group that is empty by now is an error, and as it should be.
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
