// As bundlers and Prisma's own projects do: "./replica" is replica.ts.
import { registerHooks } from "node:module";

registerHooks({
  resolve: (name, context, next) => next(name.startsWith("./") && !/\.m?[jt]s$/.test(name) ? `${name}.ts` : name, context),
});
