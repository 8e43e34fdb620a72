//! Hosts: guesses from its imports for which host a module was made.
//!
//! ```text
//! import ─► its own signs: module, name, type ─► Host ─► words about it
//!              none, and from `env` ─► the host of the others from there
//! ```
//!
//! Many hosts provide their functions in the module `env`, so one name may tell nothing while its
//! neighbours do.
//!
//! Invariant: without evidence no host is named.

use stockade_abi::import;
use stockade_wire::ValueType::{F64, I32};
use wasmparser::TypeRef;

use crate::description::{ImportOutline, Signature};
use crate::imports::WASI;

/// For whom an import was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// This one, in another version.
    Stockade,
    /// WASI preview 1, which has no such function.
    Wasi,
    /// A text: its host, and what can be done.
    Other(&'static str),
    /// The module `env`, without further evidence.
    Env,
    /// A module of an unknown host.
    Unknown,
}

use Host::Other;

const SOCKETS: Host =
    Other("WasmEdge's sockets, which are not part of WASI preview 1; there is no network here");
const OLD_WASI: Host =
    Other("the WASI of 2019; build it with a newer toolchain, for wasm32-wasip1");
const WASI_THREADS: Host = Other("threads of WASI; build it without threads");
const NO_WASI_MODULE: Host =
    Other("not WASI preview 1, whose functions are in `wasi_snapshot_preview1`");
const WASIX: Host = Other("WASIX, which is Wasmer's; build it for wasm32-wasip1");
const COMPONENT: Host = Other(
    "an interface of components: it is part of a component, or was built for one; build it for \
     wasm32-wasip1",
);
const PROPOSAL: Host = Other("a proposal that is not part of WASI preview 1");
const NODE_API: Host = Other("Node-API: it is an addon for Node.js, and calls JavaScript");
const EMSCRIPTEN: Host = Other(
    "Emscripten's JavaScript; build it with Emscripten's `-sSTANDALONE_WASM`, or with the WASI SDK",
);
const SHORTENED: Host = Other(
    "shortened names, most likely of Emscripten's JavaScript; build it with Emscripten's \
     `-sSTANDALONE_WASM`, or with the WASI SDK",
);
const DYNAMIC: Host =
    Other("a dynamic linker: it is a library to be loaded into another module; link both into one");
const WASM_BINDGEN: Host =
    Other("wasm-bindgen's JavaScript; build it without that, for wasm32-wasip1");
const GO_JS: Host = Other("Go's JavaScript; build it with GOOS=wasip1, or TinyGo's target wasip1");
const JS_STRINGS: Host = Other("JavaScript's strings; it runs only in a JavaScript engine");
const ASSEMBLY_SCRIPT: Host = Other(
    "AssemblyScript's JavaScript; build it for WASI with @assemblyscript/wasi-shim, or with `--use \
     abort=` if only `abort` is missing",
);
const KOTLIN: Host = Other("Kotlin's JavaScript; build it for Kotlin's target wasmWasi");
const DART: Host = Other("Dart's JavaScript");
const TEAVM: Host = Other("TeaVM's JavaScript; build it for TeaVM's WASI target");
const MOONBIT: Host = Other("MoonBit's JavaScript");
const EXTISM: Host = Other("Extism: it is a plugin for Extism");
const WAPC: Host = Other("waPC: it is a guest of waPC");
const PROXY: Host = Other("Proxy-Wasm: it is a plugin for a proxy such as Envoy");
const FASTLY: Host = Other("Fastly Compute");
const LUNATIC: Host = Other("Lunatic");
const JAVY: Host = Other("Javy's plugin; build the script with that linked statically");
const CHAIN: Host = Other("a blockchain's contracts");

/// The host of an import by its module's name; a `*` at the end matches a prefix, at the beginning
/// a suffix.
const MODULES: &[(&str, Host)] = &[
    ("wasi_unstable", OLD_WASI),
    ("wasix_*", WASIX),
    ("extism:*", EXTISM),
    ("moonbit:*", MOONBIT),
    ("__moonbit*", MOONBIT),
    ("wasm:js-*", JS_STRINGS),
    ("wasm:text-*", JS_STRINGS),
    ("'", JS_STRINGS),
    ("wasi_ephemeral_*", PROPOSAL),
    ("wasi_nn", PROPOSAL),
    ("wasi-nn", PROPOSAL),
    ("wasi_crypto", PROPOSAL),
    ("wasi_experimental_*", PROPOSAL),
    ("wasi_snapshot_preview2", COMPONENT),
    ("cm32p2*", COMPONENT),
    ("[export]*", COMPONENT),
    ("napi", NODE_API),
    ("emnapi", NODE_API),
    ("asm2wasm", EMSCRIPTEN),
    ("GOT.*", DYNAMIC),
    ("wbg", WASM_BINDGEN),
    ("__wbindgen_*", WASM_BINDGEN),
    ("*_bg.js", WASM_BINDGEN),
    ("gojs", GO_JS),
    ("dart2wasm*", DART),
    ("js_code", KOTLIN),
    ("teavm*", TEAVM),
    ("wapc", WAPC),
    ("fastly_*", FASTLY),
    ("lunatic::*", LUNATIC),
    ("javy_*", JAVY),
    ("ic0", CHAIN),
    ("seal0", CHAIN),
    ("seal1", CHAIN),
    ("seal2", CHAIN),
    ("vm_hooks", CHAIN),
];

/// As [`MODULES`], by the name of an import, from any module.
const NAMES: &[(&str, Host)] = &[
    ("__wbg_*", WASM_BINDGEN),
    ("__wbindgen_*", WASM_BINDGEN),
    ("napi_*", NODE_API),
    ("node_api_*", NODE_API),
    ("emnapi_*", NODE_API),
    ("_emnapi_*", NODE_API),
    ("syscall/js.*", GO_JS),
    ("runtime.*", GO_JS),
];

/// As [`NAMES`], of those from `env`.
const NAMES_IN_ENV: &[(&str, Host)] = &[
    ("emscripten_*", EMSCRIPTEN),
    ("_emscripten_*", EMSCRIPTEN),
    ("__emscripten_*", EMSCRIPTEN),
    ("__syscall_*", EMSCRIPTEN),
    ("___syscall*", EMSCRIPTEN),
    ("__asyncjs__*", EMSCRIPTEN),
    ("__resumeException", EMSCRIPTEN),
    ("_embind_*", EMSCRIPTEN),
    ("_emval_*", EMSCRIPTEN),
    ("_*_js", EMSCRIPTEN),
    ("llvm_eh_typeid_for", EMSCRIPTEN),
    ("enlargeMemory", EMSCRIPTEN),
    ("abortStackOverflow", EMSCRIPTEN),
    ("DYNAMICTOP_PTR", EMSCRIPTEN),
    ("STACKTOP", EMSCRIPTEN),
    ("__memory_base", DYNAMIC),
    ("__table_base", DYNAMIC),
    ("console.*", ASSEMBLY_SCRIPT),
    ("Date.*", ASSEMBLY_SCRIPT),
    ("Math.*", ASSEMBLY_SCRIPT),
    ("performance.*", ASSEMBLY_SCRIPT),
    ("process.*", ASSEMBLY_SCRIPT),
    ("crypto.*", ASSEMBLY_SCRIPT),
    ("proxy_*", PROXY),
    ("ext_*_version_*", CHAIN),
    ("db_read", CHAIN),
];

impl Host {
    /// For whom each of `imports` was made.
    pub(crate) fn of_all(imports: &[ImportOutline<'_>]) -> Vec<Self> {
        let own: Vec<Self> = imports.iter().map(|import| Self::of(import, imports)).collect();
        // The hosts that have functions of their own in `env`.
        let beside = imports.iter().zip(&own).find_map(|(import, host)| match host {
            Other(_) if import.module == "env" => Some(*host),
            _ => None,
        });
        let of_env = |host: Self| if host == Self::Env { beside.unwrap_or(host) } else { host };
        own.into_iter().map(of_env).collect()
    }

    fn of(import: &ImportOutline<'_>, all: &[ImportOutline<'_>]) -> Self {
        let (module, name) = (import.module, import.name);
        let by_signs = |table: &[(&str, Self)], word: &str| {
            table.iter().find(|(sign, _)| is_like(word, sign)).map(|(_, host)| *host)
        };
        match module {
            import::MODULE => Self::Stockade,
            WASI if name.starts_with("sock_") => SOCKETS,
            WASI => Self::Wasi,
            "wasi" if matches!(name, "thread-spawn" | "thread_spawn") => WASI_THREADS,
            "wasi" => NO_WASI_MODULE,
            _ => by_signs(MODULES, module)
                .or_else(|| by_signs(NAMES, name))
                .or_else(|| match module {
                    "env" => Some(Self::of_env(import, by_signs(NAMES_IN_ENV, name))),
                    _ if is_interface(module) => Some(COMPONENT),
                    _ if is_shortened(module, all) => Some(SHORTENED),
                    _ => None,
                })
                .unwrap_or(Self::Unknown),
        }
    }

    /// Of an import from `env`, whose name tells as much as `by_name`.
    fn of_env(import: &ImportOutline<'_>, by_name: Option<Self>) -> Self {
        let is = |params: &[_], results: &[_]| {
            let expected = Signature { params: params.to_vec(), results: results.to_vec() };
            import.signature.as_ref() == Some(&expected)
        };
        match import.name {
            // Emscripten's takes nothing.
            "abort" if is(&[I32; 4], &[]) => ASSEMBLY_SCRIPT,
            "seed" if is(&[], &[F64]) => ASSEMBLY_SCRIPT,
            "trace" if is(&[I32, I32, F64, F64, F64, F64, F64], &[]) => ASSEMBLY_SCRIPT,
            name if is_invoker(name) => EMSCRIPTEN,
            _ => by_name.unwrap_or(Self::Env),
        }
    }

    /// Who provides an import of type `ty`, and what the owner of the module can do.
    pub(crate) fn words(self, ty: TypeRef) -> &'static str {
        match (self, ty) {
            (Self::Stockade, _) => "another version of the guest ABI",
            (Self::Wasi, _) => "no function of WASI preview 1",
            (Other(words), _) => words,
            (Self::Env, TypeRef::Func(_) | TypeRef::FuncExact(_)) => {
                "a function of the host that it was made for, or one that no linked object defines"
            }
            (Self::Env | Self::Unknown, _) => "of the host that it was made for",
        }
    }
}

/// Whether this is a name of the functions by which Emscripten calls what may throw: `invoke_` and a
/// letter for each type.
fn is_invoker(name: &str) -> bool {
    name.strip_prefix("invoke_").is_some_and(|types| {
        !types.is_empty() && types.chars().all(|letter| "vijfdpe".contains(letter))
    })
}

/// Whether `word` is as `sign` says, which may have a `*` at its beginning, its end, or within.
fn is_like(word: &str, sign: &str) -> bool {
    let mut parts = sign.split('*');
    let (first, last) = (parts.next().unwrap_or(""), parts.next_back());
    let Some(last) = last else { return word == sign };
    let Some(mut rest) = word.strip_prefix(first) else { return false };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Whether a module's name is that of an interface of components: `package:name/interface@version`.
fn is_interface(module: &str) -> bool {
    module.starts_with("wasi:")
        || module.split_once(':').is_some_and(|(package, rest)| {
            let is_name = |name: &str| {
                name.starts_with(|c: char| c.is_ascii_lowercase())
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            };
            let (name, interface) = rest.split_once('/').unwrap_or((rest, ""));
            is_name(package) && is_name(name) && !interface.is_empty()
        })
}

/// Whether the names of a module and of all that comes from it were shortened, as in `a.b`.
fn is_shortened(module: &str, all: &[ImportOutline<'_>]) -> bool {
    const LENGTH_MAX: usize = 2;
    module.len() == 1
        && all
            .iter()
            .filter(|import| import.module == module)
            .all(|import| import.name.len() <= LENGTH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_may_stand_for_more_at_its_end_its_beginning_and_within() {
        for (word, sign, expected) in [
            ("go", "go", true),
            ("gojs", "go", false),
            ("wasix_32v1", "wasix_*", true),
            ("./app_bg.js", "*_bg.js", true),
            ("_bg.js.x", "*_bg.js", false),
            ("ext_hashing_version_1", "ext_*_version_*", true),
            ("ext_hashing", "ext_*_version_*", false),
            ("", "*", true),
            ("", "a", false),
        ] {
            assert_eq!(is_like(word, sign), expected, "{word} {sign}");
        }
    }

    #[test]
    fn an_interface_has_a_package_a_name_and_what_is_in_it() {
        for module in ["wasi:cli/run@0.2.0", "my:own-package/api", "wasi:io"] {
            assert!(is_interface(module), "{module}");
        }
        for module in ["env", "a:b", ":b/c", "A:b/c", "https://example.org/x.js", "a:/b"] {
            assert!(!is_interface(module), "{module}");
        }
    }
}
