//! `AlwaysAdmit`: does nothing; upstream keeps the name for old configurations.

use crate::plugin::Plugin;
use async_trait::async_trait;

/// See the file.
pub struct AlwaysAdmit;

pub(crate) static PLUGIN: AlwaysAdmit = AlwaysAdmit;

#[async_trait]
impl Plugin for AlwaysAdmit {
    fn name(&self) -> &'static str {
        "AlwaysAdmit"
    }

    fn by_default(&self) -> bool {
        false
    }
}
