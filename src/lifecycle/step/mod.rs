pub mod libraries;
pub mod listener;
pub mod metadata;
pub mod placing;
pub mod registration;
pub mod service;
pub mod user;
