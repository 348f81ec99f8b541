/** Runs the compiler on a program outside this package. */

import { execFile } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** The folder of this package. */
export const HERE = fileURLToPath(new URL("../..", import.meta.url));

const OPTIONS = [
  ...["--strict", "--noEmit", "--module", "nodenext", "--target", "es2022"],
  ...["--lib", "es2022,dom", "--types", ""],
];

/** Checks the types of a file in a folder. Rejects with the errors as `stdout`. */
export async function typecheck(folder: string, file: string): Promise<void> {
  const compiler = join(HERE, "node_modules/typescript/bin/tsc");
  await promisify(execFile)(process.execPath, [compiler, ...OPTIONS, file], { cwd: folder });
}
