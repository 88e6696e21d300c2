"""Scores customers through NVIDIA's unmodified Open Inference client.

    python inference.py HOST:PORT KEY < {"dense": [row …], "sparse": [row …]}

A row holds features by name. What the client got goes out as JSON. Everything
it needs to know beyond that it asks the server.
"""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

MODEL = "segments"

host, key = sys.argv[1:]
asked = json.load(sys.stdin)
headers = {"Authorization": f"Bearer {key}"}
client = triton.InferenceServerClient(host)
model = client.get_model_metadata(MODEL, headers=headers)


def tensors(rows, binary, instead={}):
    """One tensor for each input that a row has; in the types `instead` names."""
    for described in model["inputs"]:
        name = described["name"]
        values = [row.get(name) for row in rows]
        if all(value is None for value in values):
            continue
        datatype = instead.get(name, described["datatype"])
        if datatype.startswith("FP"):
            values = [np.nan if value is None else value for value in values]
        array = np.array(values, dtype=triton_to_np_dtype(datatype))
        tensor = triton.InferInput(name, list(array.shape), datatype)
        yield tensor.set_data_from_numpy(array, binary_data=binary)


def plain(array):
    texts = array.dtype == np.object_
    return [x.decode() if isinstance(x, bytes) else x for x in array.tolist()] if texts else array.tolist()


def score(rows, binary=True, instead={}, outputs=None, **options):
    result = client.infer(
        MODEL,
        list(tensors(rows, binary, instead)),
        outputs=outputs,
        headers=dict(headers),
        **options,
    )
    answer = result.get_response()
    return {
        "version": answer.get("model_version"),
        "id": answer.get("id"),
        "parameters": answer["parameters"],
        "outputs": {x["name"]: plain(result.as_numpy(x["name"])) for x in answer["outputs"]},
    }


def refusal(call):
    try:
        call()
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}


def in_json(*names):
    return [triton.InferRequestedOutput(name, binary_data=False) for name in names]


dense, sparse = asked["dense"], asked["sparse"]
names = [output["name"] for output in model["outputs"]]
answers = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": client.is_model_ready(MODEL),
    "server": client.get_server_metadata(),
    "model": model,
    "index": client.get_model_repository_index(headers=headers),
    "dense": {
        "by default": score(dense, request_id="a request"),
        "in JSON": score(dense, binary=False, outputs=in_json(*names)),
        "in other types": score(dense, instead={"orders_365d": "INT64", "spend_365d": "FP32"}),
        "in JSON, other types": score(
            dense,
            binary=False,
            instead={"orders_365d": "INT64", "spend_365d": "FP32"},
        ),
        "by version": score(dense, model_version=(model["versions"] or [""])[0]),
    },
    "sparse": {"by default": score(sparse)},
    "some outputs": score(dense, outputs=in_json("key")),
    "refusals": {
        "no key": refusal(lambda: client.get_model_metadata(MODEL)),
        "no such model": refusal(lambda: client.get_model_metadata("x", headers=headers)),
        "no such version": refusal(lambda: score(dense, model_version="x")),
        "NaN in JSON": refusal(lambda: score(sparse, binary=False)),
    },
}
# Another version is loaded, and put back.
others = [x["version"] for x in answers["index"] if x["state"] != "READY"]
if model["versions"] and others:
    client.load_model(f"{MODEL}/versions/{others[0]}", headers=headers)
    answers["loaded"] = client.get_model_metadata(MODEL, headers=headers)["versions"]
    client.unload_model(MODEL, headers=headers)
    answers["unloaded"] = client.get_model_metadata(MODEL, headers=headers)["versions"]
json.dump(answers, sys.stdout)
