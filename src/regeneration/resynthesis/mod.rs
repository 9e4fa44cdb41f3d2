// [worker] Model-free regeneration: drums from the recording's own hits, bass from its own notes.
