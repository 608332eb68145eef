/** Files as texts, which the build and the tests' bundler put in. */
declare module '*?raw' {
  const text: string
  export default text
}
