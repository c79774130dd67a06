//! The command line as typed: one struct a command. What the words mean is decided in `commands/`.

use std::path::PathBuf;

use bundle::Digest;
use bundle::name::LicenseId;
use bundle::name::Name;
use bundle::name::Platform;
use bundle::timestamp::Timestamp;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use program::inspect::Part;

/// Build, sign and check Sealift bundles.
#[derive(Debug, Parser)]
#[command(
    name = "bundler",
    version,
    max_term_width = 100,
    subcommand_required = true
)]
pub struct Cli {
    /// Print one JSON object on standard output, errors included; progress stays on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// All commands, in the order in which a vendor meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented release file, and a .gitignore that keeps secret keys out of git.
    Init(InitArgs),
    /// Make and show signing keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Make and show the trust root: which keys may sign what.
    #[command(subcommand)]
    Root(RootCommand),
    /// Make, sign and show the licenses of customers.
    #[command(subcommand)]
    License(LicenseCommand),
    /// Fetch everything the release file names and write one signed bundle.
    Build(BuildArgs),
    /// Sign a bundle that was built elsewhere; its blobs stay as they are.
    Sign(SignArgs),
    /// Verify signatures and every byte of a bundle, reading it once.
    Verify(VerifyArgs),
    /// Show what a bundle says it carries, from its head alone; nothing is decompressed.
    Inspect(InspectArgs),
}

/// `bundler init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write sealift.yaml and .gitignore; made when absent. Files that exist are never changed.
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// The vendor's name, lower-case letters, digits, dots and hyphens.
    #[arg(long, default_value = "acme")]
    pub vendor: Name,
    /// The product's name.
    #[arg(long, default_value = "shop")]
    pub product: Name,
}

/// `bundler key …`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key pair: NAME.key (secret, encrypted, mode 0600) and NAME.pub, in minisign's formats.
    ///
    /// Make one key for each purpose and keep the root keys offline:
    ///   bundler key new keys/root1     (and root2, root3: sign the trust root)
    ///   bundler key new keys/shop      (signs bundles)
    ///   bundler key new keys/license   (signs licenses)
    #[command(verbatim_doc_comment)]
    New(KeyNewArgs),
    /// Show the id and the line of a public key, of NAME.pub or of NAME.key.
    Show(KeyShowArgs),
}

/// `bundler key new`.
#[derive(Debug, Args)]
pub struct KeyNewArgs {
    /// Path without ending: keys/shop makes keys/shop.key and keys/shop.pub. Nothing is overwritten.
    pub name: PathBuf,
    #[command(flatten)]
    /// Where passwords come from.
    pub password: PasswordArgs,
}

/// `bundler key show`.
#[derive(Debug, Args)]
pub struct KeyShowArgs {
    /// A .pub file, or a .key file (asks for its password).
    pub file: PathBuf,
    #[command(flatten)]
    /// Where passwords come from.
    pub password: PasswordArgs,
}

/// Where the password of a secret key comes from.
#[derive(Clone, Debug, Default, Args)]
pub struct PasswordArgs {
    /// Read the password of the secret keys from the first line of FILE.
    ///
    /// Without it the environment variable `SEALIFT_KEY_PASSWORD` is used, and without that the terminal is asked.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `bundler root …`.
#[derive(Debug, Subcommand)]
pub enum RootCommand {
    /// Write version 1 of the trust root and its signatures.
    ///
    /// The root keys sign this file and nothing else often; each product has its own bundle and license keys:
    ///   bundler root init --vendor acme \
    ///     --key keys/root1.pub --key keys/root2.pub --key keys/root3.pub --threshold 2 \
    ///     --bundle shop=keys/shop.pub --license shop=keys/license.pub \
    ///     --sign-with keys/root1.key --sign-with keys/root2.key
    ///
    /// It writes root.json and root.json.KEYID.minisig for each signer. Give root.json to customers together with
    /// its fingerprint by another way; `installer trust add root.json --fingerprint HEX` pins it.
    #[command(verbatim_doc_comment)]
    Init(RootInitArgs),
    /// Show the fingerprint, the roles and the signatures of a trust root.
    Show(RootShowArgs),
}

/// `bundler root init`.
#[derive(Debug, Args)]
pub struct RootInitArgs {
    /// The vendor whose products this root covers.
    #[arg(long)]
    pub vendor: Name,
    /// Public key of a root signer; repeat it.
    #[arg(long = "key", value_name = "KEY.pub", required = true)]
    pub keys: Vec<PathBuf>,
    /// How many of the root keys must sign a root.
    #[arg(long, default_value_t = 2)]
    pub threshold: u32,
    /// A key that may sign bundles of PRODUCT; repeat it for more products or keys.
    #[arg(long = "bundle", value_name = "PRODUCT=KEY.pub", required = true, value_parser = parse_assignment)]
    pub bundles: Vec<(Name, PathBuf)>,
    /// A key that may sign licenses of PRODUCT; repeat it for more products or keys.
    #[arg(long = "license", value_name = "PRODUCT=KEY.pub", value_parser = parse_assignment)]
    pub licenses: Vec<(Name, PathBuf)>,
    /// When it is made, such as 2026-07-01T00:00:00Z; `SOURCE_DATE_EPOCH` or now, when not given.
    #[arg(long)]
    pub issued_at: Option<Timestamp>,
    /// Secret key of a root signer, at least `--threshold` of them.
    #[arg(long = "sign-with", value_name = "KEY.key", required = true)]
    pub sign_with: Vec<PathBuf>,
    /// The file to write; nothing is overwritten.
    #[arg(short, long, default_value = "root.json")]
    pub output: PathBuf,
    #[command(flatten)]
    /// Where passwords come from.
    pub password: PasswordArgs,
}

/// `bundler root show`.
#[derive(Debug, Args)]
pub struct RootShowArgs {
    /// The trust root; its signatures are looked for beside it.
    #[arg(default_value = "root.json")]
    pub file: PathBuf,
}

/// `bundler license …`.
#[derive(Debug, Subcommand)]
pub enum LicenseCommand {
    /// Write an unsigned license for one customer, to be read over and signed.
    New(LicenseNewArgs),
    /// Sign a license: the .lic file is the signature followed by the very bytes that were signed.
    Sign(LicenseSignArgs),
    /// Show a license, and whether its signature counts when a root is given.
    Show(LicenseShowArgs),
}

/// What a license is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LicenseKindArg {
    /// Paid use.
    Production,
    /// Ends by itself.
    Trial,
    /// Not for production.
    Development,
}

/// `bundler license new`.
#[derive(Debug, Args)]
pub struct LicenseNewArgs {
    /// The license's id, unique for the product, such as H-0193.
    #[arg(long)]
    pub id: LicenseId,
    /// Counts the versions of this license; a site refuses a lower one than it has.
    #[arg(long, default_value_t = 1)]
    pub sequence: u64,
    /// The vendor.
    #[arg(long)]
    pub vendor: Name,
    /// The product.
    #[arg(long)]
    pub product: Name,
    /// The customer's id in the vendor's books.
    #[arg(long)]
    pub customer_id: String,
    /// The customer's name as the operator shall see it.
    #[arg(long)]
    pub customer: String,
    /// The customer's address for mail.
    #[arg(long)]
    pub email: Option<String>,
    /// What the license is for.
    #[arg(long, value_enum, default_value = "production")]
    pub kind: LicenseKindArg,
    /// A channel that the customer may install from; repeat it.
    #[arg(long = "channel", default_value = "stable")]
    pub channels: Vec<Name>,
    /// When it is issued, such as 2026-07-01T00:00:00Z; `SOURCE_DATE_EPOCH` or now, when not given.
    #[arg(long)]
    pub issued_at: Option<Timestamp>,
    /// Releases up to this time may be installed.
    #[arg(long)]
    pub updates_until: Timestamp,
    /// When it ends; never, when not given.
    #[arg(long)]
    pub expires_at: Option<Timestamp>,
    /// Days after the end in which nothing is blocked yet.
    #[arg(long, default_value_t = 30)]
    pub grace_days: u16,
    /// The most masters.
    #[arg(long)]
    pub masters: Option<u32>,
    /// The most nodes, masters included.
    #[arg(long)]
    pub nodes: Option<u32>,
    /// Allow more than one node, but one master only.
    #[arg(long)]
    pub no_ha: bool,
    /// A license that this one replaces; repeat it.
    #[arg(long)]
    pub supersedes: Vec<LicenseId>,
    /// The file to write; nothing is overwritten. ID.json when not given.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
}

/// `bundler license sign`.
#[derive(Debug, Args)]
pub struct LicenseSignArgs {
    /// The unsigned license.
    pub file: PathBuf,
    /// Secret key of the role license:PRODUCT.
    #[arg(long, value_name = "KEY.key")]
    pub key: PathBuf,
    /// The trust root that names this key; what it would refuse is not signed.
    #[arg(long, default_value = "root.json")]
    pub root: PathBuf,
    /// The file to write; FILE with the ending .lic when not given.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    /// Where passwords come from.
    pub password: PasswordArgs,
}

/// `bundler license show`.
#[derive(Debug, Args)]
pub struct LicenseShowArgs {
    /// A .lic file.
    pub file: PathBuf,
    /// The trust root to verify it with; without it the contents are only claimed.
    #[arg(long)]
    pub root: Option<PathBuf>,
}

/// `bundler build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The release file.
    #[arg(short, long, default_value = "sealift.yaml")]
    pub file: PathBuf,
    /// A folder, or the path of the bundle when it ends in .airgap.
    #[arg(short, long, default_value = "dist")]
    pub output: PathBuf,
    /// Show what would be fetched and written, with bytes, and write nothing but the cache of manifests.
    #[arg(long)]
    pub dry_run: bool,
    /// Leave the signature to `bundler sign`.
    #[arg(long)]
    pub no_sign: bool,
    /// Secret key of the role bundle:PRODUCT; repeat it for a higher threshold. Overrides `signing.keys`.
    #[arg(long = "key", value_name = "KEY.key", conflicts_with = "no_sign")]
    pub keys: Vec<PathBuf>,
    /// The trust root. Overrides `signing.root`; else root.json beside the release file.
    #[arg(long)]
    pub root: Option<PathBuf>,
    /// Compress fast instead of small (zstd level 3 instead of 19).
    #[arg(long)]
    pub fast: bool,
    /// Pack for this platform instead of those of the release file, such as linux/arm64; repeat it.
    #[arg(long = "platform", value_name = "OS/ARCH")]
    pub platforms: Vec<Platform>,
    /// The release's sequence, instead of that of the release file. It must grow with every release.
    #[arg(long)]
    pub sequence: Option<u64>,
    /// Images fetched at once, and layers of each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub concurrency: u8,
    /// Where fetched blobs are kept for the next build. Default: `$XDG_CACHE_HOME/sealift` or `~/.cache/sealift`.
    #[arg(long, env = "SEALIFT_CACHE_DIR", hide_env_values = true)]
    pub cache_dir: Option<PathBuf>,
    #[command(flatten)]
    /// Where passwords come from.
    pub password: PasswordArgs,
}

/// `bundler sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The bundle; it is replaced at once by one that has the signature.
    pub file: PathBuf,
    /// Secret key of the role bundle:PRODUCT; repeat it for a higher threshold.
    #[arg(long = "key", value_name = "KEY.key", required = true)]
    pub keys: Vec<PathBuf>,
    /// The trust root that names these keys; a key that has no role there is refused.
    #[arg(long, default_value = "root.json")]
    pub root: PathBuf,
    #[command(flatten)]
    /// Where passwords come from.
    pub password: PasswordArgs,
}

/// `bundler verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The bundle.
    pub file: PathBuf,
    #[command(flatten)]
    /// What it is verified against.
    pub trust: TrustArgs,
    /// Print the SHA-256 of every blob as `sha256sum -c` reads it.
    #[arg(long)]
    pub print_sums: bool,
}

/// What a bundle is verified against.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// The vendor's trust root, got by a way you trust.
    #[arg(long, default_value = "root.json")]
    pub root: PathBuf,
    /// The fingerprint that the trust root must have.
    #[arg(long, value_name = "HEX", value_parser = parse_fingerprint)]
    pub fingerprint: Option<Digest>,
}

/// `bundler inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The bundle.
    pub file: PathBuf,
    /// What to list.
    #[arg(value_enum, default_value = "summary")]
    pub part: Part,
    /// The trust root to verify the head with; without it everything shown is only claimed by the file.
    #[arg(long)]
    pub root: Option<PathBuf>,
}

fn parse_fingerprint(text: &str) -> Result<Digest, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    Digest::from_hex(&hex.to_ascii_lowercase()).map_err(|error| error.to_string())
}

fn parse_assignment(text: &str) -> Result<(Name, PathBuf), String> {
    let (product, path) = text.split_once('=').ok_or("expected PRODUCT=KEY.pub")?;
    let product = product.parse().map_err(|error| format!("{error}"))?;
    Ok((product, path.into()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
