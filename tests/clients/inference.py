"""Scores customers through NVIDIA's unmodified Open Inference client.

    python inference.py HOST:PORT KEY < {"dense": [row …], "sparse": [row …]}

A row maps feature names to values. Prints the responses as JSON. Model names, input types
and versions come from the server's metadata.
"""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

MODEL = "segments"

host, key = sys.argv[1:]
request = json.load(sys.stdin)
headers = {"Authorization": f"Bearer {key}"}
client = triton.InferenceServerClient(host)
model = client.get_model_metadata(MODEL, headers=headers)


def tensors(rows, binary, datatypes={}):
    """Yields a tensor for each input with a value in a row; `datatypes` overrides its type."""
    for model_input in model["inputs"]:
        name = model_input["name"]
        values = [row.get(name) for row in rows]
        if all(value is None for value in values):
            continue
        datatype = datatypes.get(name, model_input["datatype"])
        if datatype.startswith("FP"):
            values = [np.nan if value is None else value for value in values]
        array = np.array(values, dtype=triton_to_np_dtype(datatype))
        tensor = triton.InferInput(name, list(array.shape), datatype)
        yield tensor.set_data_from_numpy(array, binary_data=binary)


def to_list(array):
    values = array.tolist()
    if array.dtype == np.object_:
        return [value.decode() if isinstance(value, bytes) else value for value in values]
    return values


def score(rows, binary=True, datatypes={}, outputs=None, **options):
    result = client.infer(
        MODEL,
        list(tensors(rows, binary, datatypes)),
        outputs=outputs,
        headers=dict(headers),
        **options,
    )
    response = result.get_response()
    return {
        "version": response.get("model_version"),
        "id": response.get("id"),
        "parameters": response["parameters"],
        "outputs": {x["name"]: to_list(result.as_numpy(x["name"])) for x in response["outputs"]},
    }


def refusal(call):
    try:
        call()
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}


def in_json(*names):
    return [triton.InferRequestedOutput(name, binary_data=False) for name in names]


dense, sparse = request["dense"], request["sparse"]
names = [output["name"] for output in model["outputs"]]
responses = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": client.is_model_ready(MODEL),
    "server": client.get_server_metadata(),
    "model": model,
    "index": client.get_model_repository_index(headers=headers),
    "dense": {
        "by default": score(dense, request_id="a request"),
        "in JSON": score(dense, binary=False, outputs=in_json(*names)),
        "in other types": score(dense, datatypes={"orders_365d": "INT64", "spend_365d": "FP32"}),
        "in JSON, other types": score(
            dense,
            binary=False,
            datatypes={"orders_365d": "INT64", "spend_365d": "FP32"},
        ),
        "by version": score(dense, model_version=(model["versions"] or [""])[0]),
    },
    "sparse": {"by default": score(sparse)},
    "some outputs": score(dense, outputs=in_json("segment_id")),
    "refusals": {
        "no key": refusal(lambda: client.get_model_metadata(MODEL)),
        "no such model": refusal(lambda: client.get_model_metadata("x", headers=headers)),
        "no such version": refusal(lambda: score(dense, model_version="x")),
        "NaN in JSON": refusal(lambda: score(sparse, binary=False)),
    },
}
# Load another version, then unload it, which restores the previous one.
others = [x["version"] for x in responses["index"] if x["state"] != "READY"]
if model["versions"] and others:
    client.load_model(f"{MODEL}/versions/{others[0]}", headers=headers)
    responses["loaded"] = client.get_model_metadata(MODEL, headers=headers)["versions"]
    client.unload_model(MODEL, headers=headers)
    responses["unloaded"] = client.get_model_metadata(MODEL, headers=headers)["versions"]
json.dump(responses, sys.stdout)
