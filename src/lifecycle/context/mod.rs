pub mod error;
pub mod finding;
pub mod request;
pub mod site;
pub mod watch;
