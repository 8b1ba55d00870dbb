//! Certificates of a daemon and its users.

use std::io;
use std::path::Path;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

/// Who signs the certificates of one daemon and its users.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one, which nobody knows yet.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new() -> io::Result<Self> {
        let mut params = named("an authority", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        CertifiedIssuer::self_signed(params, key).map(Self).map_err(io::Error::other)
    }

    /// Its own certificate.
    pub fn certificate(&self) -> &Certificate {
        self.0.as_ref()
    }

    /// A certificate for a daemon on `127.0.0.1`, and its key.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn sign_daemon(&self) -> io::Result<(Certificate, KeyPair)> {
        self.sign(named("a daemon", &["127.0.0.1"])?, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Writes into `folder`, which is made where it is not there, what a user shows, signed by this authority, and by whom
    /// they know the daemon, as Docker calls these files.
    ///
    /// # Errors
    /// As [`Self::new`]; they cannot be written.
    pub fn write_user(&self, trusted: &Self, folder: &Path) -> io::Result<()> {
        let (certificate, key) = self.sign(named("a user", &[])?, ExtendedKeyUsagePurpose::ClientAuth)?;
        fs_err::create_dir_all(folder)?;
        fs_err::write(folder.join("ca.pem"), trusted.certificate().pem())?;
        fs_err::write(folder.join("cert.pem"), certificate.pem())?;
        fs_err::write(folder.join("key.pem"), key.serialize_pem())
    }

    /// Writes into `folder` what a daemon on `127.0.0.1` shows, and by whom it knows its users.
    ///
    /// # Errors
    /// As [`Self::write_user`].
    pub fn write_daemon(&self, folder: &Path) -> io::Result<()> {
        let (certificate, key) = self.sign_daemon()?;
        fs_err::create_dir_all(folder)?;
        fs_err::write(folder.join("ca.pem"), self.certificate().pem())?;
        fs_err::write(folder.join("server-cert.pem"), certificate.pem())?;
        fs_err::write(folder.join("server-key.pem"), key.serialize_pem())
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> io::Result<(Certificate, KeyPair)> {
        params.extended_key_usages.push(usage);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        Ok((params.signed_by(&key, &self.0).map_err(io::Error::other)?, key))
    }
}

fn named(name: &str, addresses: &[&str]) -> io::Result<CertificateParams> {
    let addresses: Vec<String> = addresses.iter().map(|&address| address.to_owned()).collect();
    let mut params = CertificateParams::new(addresses).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
