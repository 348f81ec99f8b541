/** What the compiler says of a program that is no part of this package. */

import { execFile } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** Where this package is. */
export const HERE = fileURLToPath(new URL("../..", import.meta.url));

const OPTIONS = ["--strict", "--noEmit", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "--types", ""];

/** Compile a file of a folder for its types; rejects, with what is wrong as `stdout`, if they are. */
export async function typecheck(folder: string, file: string): Promise<void> {
  const compiler = join(HERE, "node_modules/typescript/bin/tsc");
  await promisify(execFile)(process.execPath, [compiler, ...OPTIONS, file], { cwd: folder });
}
