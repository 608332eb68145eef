export function load_dictionary(): Promise<{
  train: { source: string; target: string }[]
  validation: { source: string; target: string[] }[]
  test: { source: string; target: string[] }[]
}>
