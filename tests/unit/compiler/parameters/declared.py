"""Models with the metadata that PyTorch's newer exporter writes."""

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, helper

SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
FOLDED = "pkg.onnxscript.optimizer.folded_from"
SCOPES = "pkg.torch.onnx.name_scopes"


def declared(
    proto: onnx.ModelProto,
    kinds: Mapping[str, str],
    folded: Mapping[str, Sequence[str]] | None = None,
    modules: Sequence[str] = (),
) -> onnx.ModelProto:
    """The model with a signature, sources of folded tensors, and a module per node."""
    lines = [f"p_{name}: {kind} target='{name}'" for name, kind in kinds.items()]
    text = "\n# inputs\n" + "\n".join(lines) + "\nx: USER_INPUT\n\n# outputs\n"
    proto.graph.metadata_props.add(key=SIGNATURE, value=text)
    shapes = {item.name: list(item.dims) for item in proto.graph.initializer}
    for name, sources in (folded or {}).items():
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name])
        info.metadata_props.add(key=FOLDED, value=str([*sources]))
        proto.graph.value_info.append(info)
    for node, path in zip(proto.graph.node, modules, strict=False):
        node.metadata_props.add(key=SCOPES, value=str(["", path, "call"]))
    return proto
