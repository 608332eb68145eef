/** Objects that can be called: `await model(inputs)` is `await model._call(inputs)`, as in transformers.js. */

export interface Callable<Args extends unknown[], Result> {
  (...args: Args): Result
  /** Of the function that the object is; subclasses cannot have a property of this name. */
  readonly name: string
}

// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the interface only types the call.
export abstract class Callable<Args extends unknown[], Result> {
  constructor() {
    const call = (...args: Args): Result => (call as unknown as Callable<Args, Result>)._call(...args)
    // biome-ignore lint/correctness/noConstructorReturn: the instance is the function itself.
    return Object.setPrototypeOf(call, new.target.prototype)
  }

  abstract _call(...args: Args): Result
}
