// [audio]
