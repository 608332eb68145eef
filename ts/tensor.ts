/** Tensors and the forms in which callers may give ids, masks and floats. */
export * from './tensor/inputs.js'
export * from './tensor/tensor.js'
export {
  DATA_TYPES,
  type DataArray,
  type DataArrays,
  type DataType,
  type Element,
  type NestedArray,
} from './tensor/types.js'
