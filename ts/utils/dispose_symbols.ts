/**
 * `Symbol.dispose` and `Symbol.asyncDispose` where the engine lacks them, so that classes can define the methods that
 * `using` calls. Imported before any class that does.
 */
const symbols = Symbol as unknown as { dispose?: symbol; asyncDispose?: symbol }
if (symbols.dispose === undefined) Object.defineProperty(Symbol, 'dispose', { value: Symbol.for('Symbol.dispose') })
if (symbols.asyncDispose === undefined) {
  Object.defineProperty(Symbol, 'asyncDispose', { value: Symbol.for('Symbol.asyncDispose') })
}
