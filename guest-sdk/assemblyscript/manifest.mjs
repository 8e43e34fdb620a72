// A transform for asc that puts a manifest into the module: `--transform PATH/manifest.mjs`.
//
// The records, one a line as docs/abi.md has them, are in the file that STOCKADE_MANIFEST names.
import { readFileSync } from "node:fs";

export default class Manifest {
  afterCompile(module) {
    const records = readFileSync(process.env.STOCKADE_MANIFEST ?? "tasks.jsonl");
    for (const line of records.toString().split("\n")) if (line.trim()) JSON.parse(line);
    module.addCustomSection("stockade.tasks", records);
  }
}
