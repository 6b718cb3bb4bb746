// encode and decode_piece on any bytes. The tokenizer.bin is that of the environment's GETP_FUZZ_TOKENIZER.
#include "fuzzing.hpp"

#include <cstring>
#include <vector>

#include "../../tokenizer.cpp"

static Tokenizer *tokenizer = new Tokenizer;

extern "C" int LLVMFuzzerInitialize(int *, char ***) {
  const char *path = getenv("GETP_FUZZ_TOKENIZER");
  require(path, "GETP_FUZZ_TOKENIZER names a tokenizer.bin");
  read_whole_tokenizer(tokenizer, path);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  // The text ends at its first NUL, and its memory right after: reading on is caught. The first byte limits the ids.
  const std::string_view text((const char *)data + 1, strnlen((const char *)data + 1, size - 1));
  std::vector<char> memory(text.begin(), text.end());
  memory.push_back('\0');
  std::vector<int> ids(text.size() + 2);
  int count = -1;
  encode(tokenizer, memory.data(), 0, 1, ids.data(), &count, (int)ids.size());
  require(count >= 2 && count <= (int)ids.size() && ids[0] == 0 && ids[count - 1] == 1, "bos, at most n tokens, eos");
  std::string back;
  for (int i = 1; i < count - 1; i++) back += decode_piece(tokenizer, ids[i - 1], ids[i]);
  require(back == text, "decoding gives back the text");

  const int most = data[0] % (count + 1);
  std::vector<int> first(most);
  int written = -1;
  encode(tokenizer, memory.data(), 0, 1, first.data(), &written, most);
  require(written == most, "as many ids as there is room for");
  for (int i = 0; i < most; i++) require(first[i] == ids[i], "the same ids as with room for all");
  return 0;
}
