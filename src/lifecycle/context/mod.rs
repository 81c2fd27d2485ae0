pub mod checkpoint;
pub mod error;
pub mod hint;
pub mod request;
pub mod site;
pub mod watch;
