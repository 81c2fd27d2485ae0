pub mod libraries;
pub mod listener;
pub mod metadata;
pub mod placing;
pub mod precheck;
pub mod registration;
pub mod service;
pub mod user;
