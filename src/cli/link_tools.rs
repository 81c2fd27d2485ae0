//! `runup link-tools`, which runup runs as the runner's user, to link the tools that all runners share.

use super::args::LinkToolsFlags;
use super::output::{Failed, Output};
use crate::host::{self, umask};
use crate::runner::tool_cache;

pub(super) fn run(flags: &LinkToolsFlags) -> Result<Output, Failed> {
    let linked = umask::for_others(|| tool_cache::link(&flags.cache, &flags.own, true));
    let left_out = linked.map_err(host::Error::from)?;
    Ok(Output::new(left_out.join("\n"), &serde_json::json!({ "left_out": left_out })))
}
