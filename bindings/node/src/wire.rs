//! `WireTensor`, `Source` and `Reply` of the contract as JavaScript values.

use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;
use switch_engine::{Failure, Reply, Tensor};

/// `WireTensor`.
#[napi(object, js_name = "WireTensor")]
pub struct JsTensor {
    pub name: String,
    #[napi(ts_type = "'float32' | 'int32' | 'int64' | 'uint8'")]
    pub dtype: String,
    pub dims: Vec<f64>,
    pub data: Uint8Array,
}

/// `Source`. Only `path` is used here: the file is mapped, and its size is what the file system says.
#[napi(object, js_name = "Source", object_to_js = false)]
pub struct JsSource {
    pub name: String,
    pub size: f64,
    pub path: Option<String>,
}

/// `Reply`.
#[napi(object, js_name = "Reply", object_from_js = false)]
pub struct JsReply {
    pub json: String,
    pub tensors: Vec<JsTensor>,
}

impl JsTensor {
    /// Copies the bytes, after checking that they are as many as `dims` and `dtype` say.
    pub fn into_tensor(self) -> Result<Tensor, Failure> {
        Tensor::from_host(self.name, &self.dtype, &self.dims, self.data.to_vec())
    }
}

impl From<Reply> for JsReply {
    /// Tensors go over as they are: JavaScript gets the engine's own memory, freed when its array is collected.
    fn from(reply: Reply) -> Self {
        let tensors = reply
            .tensors
            .into_iter()
            .map(|tensor| JsTensor {
                name: tensor.name,
                dtype: tensor.dtype.name().to_owned(),
                dims: tensor.dims.into_iter().map(|dim| dim as f64).collect(),
                data: Uint8Array::from(tensor.data),
            })
            .collect();
        Self { json: reply.json, tensors }
    }
}
