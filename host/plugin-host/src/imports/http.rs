//! `loom:net/http`.

use std::sync::OnceLock;
use std::time::Duration;

use ureq::http::{self, HeaderMap, HeaderName, HeaderValue, Method, Uri};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use zeroize::Zeroizing;

use self::wit::loom::net::http::{self as interface, Host, HostRequest, HostResponse};
use crate::config::PluginConfig;
use crate::grant;
use crate::guest::Guest;
use crate::info::PluginInfo;
use crate::types::{Error, ErrorKind, Failure, error};

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:net/http@0.1.0;",
        imports: { "loom:net/http.[method]request.send": async | trappable, default: trappable },
        with: {
            "loom:host/types": crate::types::wit,
            "loom:net/http.request": super::Request,
            "loom:net/http.response": super::Response,
        },
        trappable_error_type: { "loom:host/types.error" => crate::types::Failure },
    });
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer's body at most.
const BODY: u64 = 16 << 20;

/// A request to send.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Zeroizing<String>)>,
    body: Zeroizing<Vec<u8>>,
}

/// An answer.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Response {
    status: u16,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
}

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    plugin: &'a PluginInfo,
    config: &'a PluginConfig,
    table: &'a mut ResourceTable,
}

struct Http;

impl HasData for Http {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    interface::add_to_linker::<_, Http>(linker, |guest| View {
        plugin: &guest.plugin,
        config: &guest.config,
        table: &mut guest.table,
    })
}

impl Host for View<'_> {}

impl HostRequest for View<'_> {
    fn new(&mut self, method: String, url: String) -> wasmtime::Result<Resource<Request>> {
        let (headers, body) = (Vec::new(), Zeroizing::default());
        Ok(self.table.push(Request { method, url, headers, body })?)
    }

    fn header(&mut self, request: Resource<Request>, name: String, value: String) -> wasmtime::Result<()> {
        self.table.get_mut(&request)?.headers.push((name, value.into()));
        Ok(())
    }

    fn body(&mut self, request: Resource<Request>, content: Vec<u8>) -> wasmtime::Result<()> {
        self.table.get_mut(&request)?.body = content.into();
        Ok(())
    }

    async fn send(&mut self, request: Resource<Request>) -> Result<Resource<Response>, Failure> {
        let request = self.table.get(&request)?.clone();
        let url: Uri = request.url.parse().map_err(|_| invalid(format!("`{}` is no URL", request.url)))?;
        grant::request(self.plugin, self.config, &request.method, &url)?;
        let response = tokio::task::spawn_blocking(move || send(&request, url)).await??;
        Ok(self.table.push(response)?)
    }

    fn drop(&mut self, request: Resource<Request>) -> wasmtime::Result<()> {
        self.table.delete(request)?;
        Ok(())
    }
}

impl HostResponse for View<'_> {
    fn status(&mut self, response: Resource<Response>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&response)?.status)
    }

    fn header(&mut self, response: Resource<Response>, name: String) -> wasmtime::Result<Option<String>> {
        let value = self.table.get(&response)?.headers.get(&name);
        Ok(value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()))
    }

    fn body(&mut self, response: Resource<Response>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&response)?.body.to_vec())
    }

    fn drop(&mut self, response: Resource<Response>) -> wasmtime::Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}

fn invalid(message: String) -> Error {
    error(ErrorKind::Invalid, "HTTP_REQUEST", message)
}

/// The one client: it follows no redirect, which could lead to another server, and hears of no proxy, which no grant names.
fn agent() -> &'static ureq::Agent {
    static AGENT: OnceLock<ureq::Agent> = OnceLock::new();
    AGENT.get_or_init(|| {
        let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
        ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .http_status_as_error(false)
            .proxy(None)
            .user_agent(concat!("loom/", env!("CARGO_PKG_VERSION")))
            .build()
            .into()
    })
}

fn send(request: &Request, url: Uri) -> Result<Response, Error> {
    let place = format!("{}://{}", url.scheme_str().unwrap_or_default(), grant::authority(&url));
    let method = Method::from_bytes(request.method.as_bytes())
        .map_err(|_| invalid(format!("`{}` is no method", request.method)))?;
    let mut built = http::Request::builder().method(method).uri(url);
    for (name, value) in &request.headers {
        let no_header = || invalid(format!("the header `{name}` or its value cannot be sent"));
        let header: HeaderName = name.parse().map_err(|_| no_header())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| no_header())?;
        value.set_sensitive(true);
        built = built.header(header, value);
    }
    let built = built.body(request.body.to_vec()).map_err(|cause| invalid(cause.to_string()))?;
    let unanswered = |cause: ureq::Error| {
        error(ErrorKind::Unavailable, "HTTP_UNANSWERED", format!("no answer from {place}: {cause}"))
    };
    let answer = agent().run(built).map_err(unanswered)?;
    let (parts, mut body) = answer.into_parts();
    let body = body.with_config().limit(BODY).read_to_vec().map_err(unanswered)?;
    Ok(Response { status: parts.status.as_u16(), headers: parts.headers, body: body.into() })
}
