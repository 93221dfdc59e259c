"""The weights of swift-client's packaged model, the file ``model.gguf`` in this folder; nothing here is executed."""
