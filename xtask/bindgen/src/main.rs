//! `ocelli-bindgen MODULE.wasm FOLDER`: writes the JavaScript side of a module, `FOLDER/MODULE.js`, with its types.

use wasm_bindgen_cli_support::Bindgen;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [module, folder] = &arguments[..] else { anyhow::bail!("expected a module and a folder") };
    Bindgen::new().input_path(module).web(true)?.typescript(true).omit_default_module_path(false).generate(folder)
}
