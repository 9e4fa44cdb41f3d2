// [audio] stub
