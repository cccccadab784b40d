//! The function libraries: CEL's standard one and those of Kubernetes, and the values that they bring along.
//!
//! One more library costs a file and a line in `ALL`. Functions are pure; who may do what is asked through `Authorizer`.

pub mod authorizer;
mod extended;
mod formats;
mod lists;
mod network;
mod quantities;
mod semvers;
mod standard;
mod strings;
mod url;

pub use authorizer::{Authorization, Authorizer, Decision};
pub use formats::NamedFormat;
pub(crate) use strings::LARGEST as LARGEST_TEXT;
pub use url::Url;

use super::declare::Library;
use crate::kinds::shared::semver::Version;
use crate::quantity::Quantity;
use std::net::IpAddr;
use std::sync::Arc;

/// All libraries, with the versions that brought them.
pub(crate) const ALL: &[&Library] = &[
    &standard::LIBRARY,
    &strings::LIBRARY,
    &strings::PATTERNS,
    &lists::LIBRARY,
    &url::LIBRARY,
    &authorizer::LIBRARY,
    &authorizer::SELECTORS,
    &extended::OPTIONAL,
    &quantities::LIBRARY,
    &lists::SETS,
    &network::IP,
    &network::CIDR,
    &formats::LIBRARY,
    &extended::TWO_VARIABLES,
    &semvers::LIBRARY,
    &lists::EXTENDED,
];

/// Libraries that only some environments have.
pub(crate) use extended::{INCLUDES, JSON_PATCH};

/// A value of a library.
#[derive(Clone, Debug)]
pub enum Opaque<'a> {
    /// `kubernetes.Quantity`.
    Quantity(Quantity),
    /// `kubernetes.URL`.
    Url(Arc<Url>),
    /// `net.IP`.
    Ip(IpAddr),
    /// `net.CIDR`: an address and the length of the prefix.
    Cidr(IpAddr, u8),
    /// `kubernetes.Semver`, with its text.
    Semver(Arc<(Version, String)>),
    /// `kubernetes.NamedFormat`.
    Format(&'static NamedFormat),
    /// The values of the authorizer.
    Authorization(Arc<Authorization<'a>>),
}

impl Opaque<'_> {
    /// The name of its type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Opaque::Quantity(_) => "kubernetes.Quantity",
            Opaque::Url(_) => "kubernetes.URL",
            Opaque::Ip(_) => "net.IP",
            Opaque::Cidr(..) => "net.CIDR",
            Opaque::Semver(_) => "kubernetes.Semver",
            Opaque::Format(_) => "kubernetes.NamedFormat",
            Opaque::Authorization(authorization) => authorization.type_name(),
        }
    }

    pub(crate) fn equals(&self, other: &Opaque<'_>) -> bool {
        match (self, other) {
            (Opaque::Quantity(a), Opaque::Quantity(b)) => a == b,
            (Opaque::Url(a), Opaque::Url(b)) => a.text == b.text,
            (Opaque::Ip(a), Opaque::Ip(b)) => a == b,
            (Opaque::Cidr(a, m), Opaque::Cidr(b, n)) => a == b && m == n,
            (Opaque::Semver(a), Opaque::Semver(b)) => a.0 == b.0,
            (Opaque::Format(a), Opaque::Format(b)) => a.name == b.name,
            (Opaque::Authorization(a), Opaque::Authorization(b)) => std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b)),
            _ => false,
        }
    }

    /// In units of cost.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Opaque::Ip(IpAddr::V4(_)) => 4,
            Opaque::Ip(IpAddr::V6(_)) => 16,
            Opaque::Cidr(_, bits) => u64::from(bits.div_ceil(8)),
            _ => 1,
        }
    }

    /// As text, where it has one.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Opaque::Quantity(quantity) => Some(quantity.to_string()),
            Opaque::Url(url) => Some(url.text.clone()),
            Opaque::Ip(address) => Some(address.to_string()),
            Opaque::Cidr(address, bits) => Some(format!("{address}/{bits}")),
            Opaque::Semver(version) => Some(version.1.clone()),
            Opaque::Format(_) | Opaque::Authorization(_) => None,
        }
    }
}
