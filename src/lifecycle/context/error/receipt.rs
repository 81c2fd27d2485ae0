//! The receipt of a just-in-time runner.

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use std::path::PathBuf;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    #[error("{} is not a receipt of a runner: {message}", path.display())]
    ReceiptMalformed { path: PathBuf, message: String },
    #[error("--url is {given}, but {} is the receipt of a runner at {receipt}", path.display())]
    OtherReceipt { path: PathBuf, given: String, receipt: String },
    #[error("the server calls the runner with id {id} {name}, but {} says {receipt}", path.display())]
    ReceiptName { path: PathBuf, id: u64, name: String, receipt: String },
}

impl Failure for ReceiptError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::ReceiptMalformed { path, .. } | Self::ReceiptName { path, .. } => format!(
                "Look for the runner with `runup runners list`, delete it with `runup runners \
                 delete`, and remove {}.",
                path.display()
            ),
            Self::OtherReceipt { receipt, .. } => format!("Pass --url {receipt}, or another --receipt."),
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::ReceiptMalformed { .. } | Self::OtherReceipt { .. } | Self::ReceiptName { .. } => {
                &situation::RECEIPT
            }
        }
    }
}
