pub mod error;
pub mod failure;
pub mod finding;
pub mod journal_error;
pub mod request;
pub mod site;
pub mod watch;
