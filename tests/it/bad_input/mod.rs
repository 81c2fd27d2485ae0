//! Bad input of every kind. Each test holds the exit code, a message that names what and where, and that nothing is
//! left behind.

mod archives;
mod config_sh;
mod machine;
mod removal;
mod server;
mod together;

use crate::rig::{Ran, Rig};

impl Rig {
    /// `install` fails with this code and leaves nothing: no file, no user, no process, nothing on the server.
    #[track_caller]
    fn refuses(&self, code: i32, arguments: &[&str]) -> Ran {
        let mut all = vec!["install"];
        all.extend(arguments);
        let ran = self.run(&all).expect(code);
        self.assert_nothing_left();
        assert_eq!(self.processes(), [] as [&str; 0]);
        ran
    }
}

impl Ran {
    /// The failure says what to do.
    #[track_caller]
    pub(crate) fn hints(self, text: &str) -> Self {
        let hint = self.stderr.lines().find_map(|line| line.strip_prefix("hint: "));
        assert!(hint.is_some_and(|hint| hint.contains(text)), "no hint with {text:?} in {self:#?}");
        self
    }

    /// The line that says what went wrong.
    fn error(&self) -> String {
        self.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default().to_owned()
    }
}
