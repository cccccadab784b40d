//! What a person may say on the command line. Upstream's names where upstream has the flag.
//!
//! Never acts.

use clap::{Args, Parser, Subcommand};
use std::net::IpAddr;
use std::path::PathBuf;

/// A Kubernetes cluster in one process.
#[derive(Parser)]
#[command(name = "ironkeel", version, about, propagate_version = true, max_term_width = 100)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start a cluster: API server, controllers, scheduler and, where possible, a node
    Up(Box<Up>),
    /// Remove the containers and the network of a cluster; its data stays
    Down(Cluster),
    /// Remove a cluster with all its data
    Reset(Reset),
    /// Work with the node's images
    Image(Image),
    /// Write the objects of a cluster and their history to a file, while it runs or not
    Backup(crate::backup::Backup),
    /// Fill an empty place from a backup, as of any revision or time in it
    Restore(crate::restore::Restore),
    /// Check that a cluster's store is sound
    Check(crate::check::Check),
    /// Bring stored objects and their past under the first key of --encryption-provider-config
    RewriteEncryption(RewriteEncryption),
    /// A further node of `up --nodes`, which starts it
    #[command(hide = true)]
    Node(crate::join::Join),
    /// The API server alone, with upstream's flags
    #[command(disable_help_flag = true)]
    Apiserver(Words),
    /// The controllers alone, with upstream's flags
    #[command(disable_help_flag = true)]
    ControllerManager(Words),
    /// The scheduler alone, with upstream's flags
    #[command(disable_help_flag = true)]
    Scheduler(Words),
    /// The node agent alone, with upstream's flags
    #[command(disable_help_flag = true)]
    Kubelet(Words),
    /// The service proxy of a node alone, with upstream's flags
    #[command(disable_help_flag = true)]
    Proxy(Words),
    /// Print a completion script for a shell
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Flags that another table reads.
#[derive(Args)]
pub(crate) struct Words {
    /// Flags of Kubernetes v1.36 (docs/flags.md); --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    pub(crate) words: Vec<String>,
}

/// Which cluster on this machine.
#[derive(Args, Clone)]
pub(crate) struct Cluster {
    /// Where the cluster keeps its data [default: /var/lib/ironkeel as root, ~/.local/share/ironkeel otherwise]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl Cluster {
    /// The data directory, absolute.
    pub(crate) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        let given = match &self.data_dir {
            Some(given) => given.clone(),
            None if nix::unistd::geteuid().is_root() => PathBuf::from("/var/lib/ironkeel"),
            None => {
                let home = std::env::var_os("HOME")
                    .ok_or_else(|| anyhow::anyhow!("HOME is not set: name a directory with --data-dir"))?;
                PathBuf::from(home).join(".local/share/ironkeel")
            }
        };
        Ok(std::path::absolute(given)?)
    }
}

#[derive(Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct RewriteEncryption {
    /// Kubeconfig of an administrator of the running cluster
    #[arg(long, value_name = "FILE", default_value = "ironkeel.kubeconfig")]
    pub(crate) kubeconfig: PathBuf,
}

#[derive(Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

#[derive(Subcommand)]
pub(crate) enum ImageCommand {
    /// Import images from OCI archives
    Load {
        #[command(flatten)]
        cluster: Cluster,
        /// Socket of the container runtime, when the cluster does not run its own
        #[arg(long, value_name = "SOCKET")]
        containerd: Option<PathBuf>,
        /// Archives, as `docker save` or `hack/images` write them
        #[arg(required = true, value_name = "FILE.tar")]
        files: Vec<PathBuf>,
    },
    /// List the images of the node
    List {
        #[command(flatten)]
        cluster: Cluster,
        /// Socket of the container runtime, when the cluster does not run its own
        #[arg(long, value_name = "SOCKET")]
        containerd: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Where to write the administrator's kubeconfig
    #[arg(long, value_name = "FILE", default_value = "ironkeel.kubeconfig")]
    pub(crate) kubeconfig: PathBuf,
    /// Storage engine and its place [default: embedded:DATA-DIR/store]
    #[arg(long, value_name = "ENGINE:PLACE")]
    pub(crate) storage: Option<String>,
    /// Option of the storage engine, such as timeout=5000 or tls-cert-file=FILE with foundationdb; may be given more than once
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) storage_option: Vec<String>,
    /// Let controllers and scheduler act only while they hold a Lease [default: true with a store that several processes share]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub(crate) leader_elect: Option<bool>,
    /// Address on which the API server listens
    #[arg(long, default_value = "0.0.0.0")]
    pub(crate) bind_address: IpAddr,
    /// Address under which others reach the API server [default: that of the route to the outside]
    #[arg(long)]
    pub(crate) advertise_address: Option<IpAddr>,
    /// Port of the API server
    #[arg(long, default_value_t = 6443)]
    pub(crate) secure_port: u16,
    /// Serving certificate of the API server [default: made and renewed by this cluster]
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// Key of --tls-cert-file
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// Further authorities of client certificates
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca_file: Option<PathBuf>,
    /// Bearer tokens: token,user,uid[,"group1,group2"] per line
    #[arg(long, value_name = "FILE")]
    pub(crate) token_auth_file: Option<PathBuf>,
    /// Let requests without credentials be system:anonymous
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) anonymous_auth: bool,
    /// Issuers of tokens beyond the cluster, and on which paths callers without credentials are let in: an AuthenticationConfiguration
    #[arg(long, value_name = "FILE")]
    pub(crate) authentication_config: Option<PathBuf>,
    /// Authorizers in order, webhooks among them, in the place of --authorization-mode: an AuthorizationConfiguration
    #[arg(long, value_name = "FILE")]
    pub(crate) authorization_config: Option<PathBuf>,
    /// Settings of admission plugins: an AdmissionConfiguration
    #[arg(long, value_name = "FILE")]
    pub(crate) admission_control_config_file: Option<PathBuf>,
    /// Authorizers in order
    #[arg(long, value_delimiter = ',', default_value = "Node,RBAC")]
    pub(crate) authorization_mode: Vec<String>,
    /// Issuers of service-account tokens; the first one signs
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local")]
    pub(crate) service_account_issuer: Vec<String>,
    /// Audiences of the API server [default: the issuers]
    #[arg(long, value_delimiter = ',')]
    pub(crate) api_audiences: Vec<String>,
    /// Further keys whose service-account tokens are accepted
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_key_file: Vec<PathBuf>,
    /// Key that signs service-account tokens [default: made by this cluster]
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_signing_key_file: Option<PathBuf>,
    /// Addresses of Services, one range for each family
    #[arg(long, value_delimiter = ',', default_value = "10.96.0.0/12")]
    pub(crate) service_cluster_ip_range: Vec<String>,
    /// Node ports, both ends included
    #[arg(long, default_value = "30000-32767")]
    pub(crate) service_node_port_range: String,
    /// How long Events are kept
    #[arg(long, default_value = "1h")]
    pub(crate) event_ttl: String,
    /// How long past states of objects are kept
    #[arg(long, default_value = "720h", value_name = "DURATION")]
    pub(crate) history_retention: String,
    /// Encryption of stored objects: an EncryptionConfiguration
    #[arg(long, value_name = "FILE")]
    pub(crate) encryption_provider_config: Option<PathBuf>,
    /// Take up changes of --encryption-provider-config while running
    #[arg(
        long,
        default_value_t = false,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set,
        requires = "encryption_provider_config"
    )]
    pub(crate) encryption_provider_config_automatic_reload: bool,
    /// Sort requests into priority levels that have seats and queues of their own
    #[arg(
        long,
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    pub(crate) enable_priority_and_fairness: bool,
    /// Bytes that objects, latest events and indexes may take in the API server's memory, as 2Gi; 0 for no limit [default: half of the memory]
    #[arg(long, value_name = "QUANTITY")]
    pub(crate) watch_cache_memory: Option<String>,
    /// Most requests in progress that only read
    #[arg(long, default_value_t = 400)]
    pub(crate) max_requests_inflight: usize,
    /// Most requests in progress that write
    #[arg(long, default_value_t = 200)]
    pub(crate) max_mutating_requests_inflight: usize,
    /// Admission plugins to turn on beside the defaults
    #[arg(long, value_delimiter = ',')]
    pub(crate) enable_admission_plugins: Vec<String>,
    /// Admission plugins to turn off
    #[arg(long, value_delimiter = ',')]
    pub(crate) disable_admission_plugins: Vec<String>,
    /// APIs to turn on or off: group/version[/resource]=true|false, api/all, api/ga, api/beta, api/alpha
    #[arg(long, value_name = "KEY=BOOL,...")]
    pub(crate) runtime_config: Vec<String>,
    /// Feature gates to turn on or off, such as ClusterTrustBundle=true; AllAlpha and AllBeta mean all of a stage
    #[arg(long, value_name = "NAME=BOOL,...")]
    pub(crate) feature_gates: Vec<String>,
    /// Controllers: * for all, name for one, -name for all but one
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub(crate) controllers: Vec<String>,
    /// Start the control plane alone
    #[arg(long)]
    pub(crate) no_node: bool,
    /// How many nodes: those beyond the first live in network namespaces of this machine
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=50), conflicts_with_all = ["no_node", "containerd"])]
    pub(crate) nodes: u8,
    /// Name of the node [default: the machine's host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Socket of a container runtime to use instead of an own one
    #[arg(long, value_name = "SOCKET")]
    pub(crate) containerd: Option<PathBuf>,
    /// Addresses of pods
    #[arg(long, default_value = "10.244.0.0/24", value_name = "CIDR")]
    pub(crate) pod_cidr: String,
    /// Port of the kubelet
    #[arg(long, default_value_t = 10250)]
    pub(crate) kubelet_port: u16,
    /// Most pods on the node
    #[arg(long, default_value_t = 110)]
    pub(crate) max_pods: u32,
    /// Directory of manifests of static pods, which the first node runs
    #[arg(long, value_name = "DIR", conflicts_with = "no_node")]
    pub(crate) pod_manifest_path: Option<PathBuf>,
    /// Leave the pods running at the end
    #[arg(long)]
    pub(crate) keep_pods: bool,
    /// What to log: a level, or directives such as info,storage=debug
    #[arg(long, default_value = "warn", value_name = "FILTER")]
    pub(crate) log: String,
}
