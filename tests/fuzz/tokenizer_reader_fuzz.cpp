// read_tokenizer and read_whole_tokenizer on any file: one line, or a tokenizer that encodes every byte.
#include "fuzzing.hpp"

#include <vector>

#include "../../tokenizer.cpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static MemoryFile file;
  file.set(data, size, size);
  Tokenizer tokenizer;
  try {
    read_whole_tokenizer(&tokenizer, file.path());
  } catch (Refused) {
    return 0;
  }
  std::string text;
  for (int byte = 1; byte < 256; byte++) text.append(3, (char)byte);
  text.append((const char *)data, size < 4096 ? size : 4096);
  std::vector<int> ids(text.size() + 2);
  int count = -1;
  encode(&tokenizer, text.c_str(), -1, -1, ids.data(), &count, (int)ids.size());
  std::string back;
  for (int i = 0; i < count; i++) back += decode_piece(&tokenizer, -1, ids[i]);
  require(back == text.c_str(), "decoding gives back the text");

  const int tokens = tokenizer.vocab_size;
  read_tokenizer(&tokenizer, file.path(), tokens);
  require(tokenizer.vocab_size == tokens, "the same tokens again");
  try {
    read_tokenizer(&tokenizer, file.path(), tokens + 1);
  } catch (Refused) {
    return 0;
  }
  require(false, "another number of tokens is refused");
  return 0;
}
