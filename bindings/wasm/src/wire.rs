//! `WireTensor` and `Reply` of the contract as JavaScript values.

use js_sys::{Array, Object, Reflect, Uint8Array};
use switch_engine::{Failure, Reply, Tensor};
use wasm_bindgen::{JsCast, JsValue};

/// A property of a JavaScript object; undefined where the value is no object.
pub fn property(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED)
}

/// Copies a `WireTensor` in.
pub fn tensor(value: &JsValue) -> Result<Tensor, Failure> {
    let name = property(value, "name").as_string().unwrap_or_default();
    let wrong =
        |what: &str, wanted: &str| Failure::new("INVALID_INPUT", format!("tensor {name:?}: {what} is not {wanted}"));
    let dtype = property(value, "dtype").as_string().ok_or_else(|| wrong("dtype", "a string"))?;
    let dims = property(value, "dims").dyn_into::<Array>().map_err(|_| wrong("dims", "an array"))?;
    let dims = dims.iter().map(|dim| dim.as_f64()).collect::<Option<Vec<_>>>();
    let dims = dims.ok_or_else(|| wrong("dims", "an array of numbers"))?;
    let data = property(value, "data").dyn_into::<Uint8Array>().map_err(|_| wrong("data", "a Uint8Array"))?;
    Tensor::from_host(name, &dtype, &dims, data.to_vec())
}

fn set(object: &Object, name: &str, value: &JsValue) -> Result<(), Failure> {
    Reflect::set(object, &JsValue::from_str(name), value)
        .map(|_| ())
        .map_err(|_| Failure::new("INTERNAL", format!("the reply's {name} could not be set")))
}

/// Copies a `Reply` out.
pub fn reply(reply: Reply) -> Result<Object, Failure> {
    let tensors = Array::new();
    for tensor in reply.tensors {
        let object = Object::new();
        set(&object, "name", &JsValue::from_str(&tensor.name))?;
        set(&object, "dtype", &JsValue::from_str(tensor.dtype.name()))?;
        let dims: Array = tensor.dims.iter().map(|&dim| JsValue::from_f64(dim as f64)).collect();
        set(&object, "dims", &dims)?;
        set(&object, "data", &Uint8Array::from(tensor.data.as_slice()))?;
        tensors.push(&object);
    }
    let object = Object::new();
    set(&object, "json", &JsValue::from_str(&reply.json))?;
    set(&object, "tensors", &tensors)?;
    Ok(object)
}
