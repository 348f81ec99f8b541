// Builds dist: ES modules, and CommonJS modules in dist/cjs, each with types.
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
rmSync(here("dist"), { recursive: true, force: true });
for (const project of ["tsconfig.json", "tsconfig.cjs.json"]) {
  execFileSync(process.execPath, [here("node_modules/typescript/bin/tsc"), "-p", here(project)], { stdio: "inherit" });
}
writeFileSync(here("dist/cjs/package.json"), '{ "type": "commonjs" }\n');
