// make_model: writes a random gpt-oss model in the harness's format, and a synthetic tokenizer that fits it.
//
//   make_model tiny|7m|20b|120b -o model.bin [-z tokenizer.bin] [--seed N] [--mxfp4|--bf16|--fp32]
//
// The same seed gives the same bytes with any number of threads, compiler and processor (random_weights.hpp).
//
//   g++ -std=c++17 -O3 -fopenmp tools/make_model.cpp -o make_model        (-fopenmp is optional)
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "arguments.hpp"
#include "random_weights.hpp"

using random_weights::kTensors, random_weights::Rounding, random_weights::Tensors;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "model.bin is little-endian and is written as it lies in memory");

// ---------------------------------------------------------------------------------------------------------------------
// Files

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

char g_unfinished[4096];  // the temporary file, for the signal handler

void on_signal(int signal) {
  if (g_unfinished[0]) unlink(g_unfinished);
  _exit(128 + signal);
}

// A file that appears under its name only once it is whole: it is written beside it and renamed by commit().
class OutputFile {
 public:
  OutputFile(const std::string &path, int64_t bytes)
      : path_(path), temporary_(path + ".part" + std::to_string(getpid())) {
    struct stat existing;
    if (stat(path.c_str(), &existing) == 0 && !S_ISREG(existing.st_mode))
      throw Error(path + " exists and is not a regular file: give another output path");
    if (temporary_.size() >= sizeof g_unfinished) throw Error(path + ": path too long: give a shorter one");
    fd_ = open(temporary_.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    if (fd_ < 0) throw Error("cannot create " + temporary_ + ": " + std::strerror(errno));
    std::strcpy(g_unfinished, temporary_.c_str());
    struct statvfs disk;
    if (fstatvfs(fd_, &disk) == 0) {
      const double available = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
      if (available < static_cast<double>(bytes)) {
        char text[160];
        std::snprintf(text, sizeof text, ": needs %.3f GB, the disk has %.3f GB free: free some or choose another disk",
                      static_cast<double>(bytes) / 1e9, available / 1e9);
        discard();
        throw Error(path + text);
      }
    }
  }
  OutputFile(const OutputFile &) = delete;
  OutputFile &operator=(const OutputFile &) = delete;
  ~OutputFile() { discard(); }

  // Writes all bytes at the offset; returns 0 or the error number.
  int write_at(const void *data, int64_t bytes, int64_t offset) const {
    const char *from = static_cast<const char *>(data);
    while (bytes > 0) {
      const ssize_t n = pwrite(fd_, from, static_cast<size_t>(bytes), offset);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno;
      if (n == 0) return ENOSPC;
      from += n, bytes -= n, offset += n;
    }
    return 0;
  }
  void check(int error) const {
    if (error) throw Error("writing " + path_ + " failed: " + std::strerror(error) + ": nothing was kept");
  }
  void commit() {
    const int fd = std::exchange(fd_, -1);
    const int error = close(fd) == 0 && rename(temporary_.c_str(), path_.c_str()) == 0 ? 0 : errno;
    if (error) unlink(temporary_.c_str());
    g_unfinished[0] = 0;
    check(error);
  }

 private:
  void discard() {
    if (fd_ < 0) return;
    close(std::exchange(fd_, -1));
    unlink(temporary_.c_str());
    g_unfinished[0] = 0;
  }
  std::string path_, temporary_;
  int fd_ = -1;
};

// Streams the model through one 16 MB buffer a thread.
void write_model(const std::string &path, const Shape &config, uint64_t seed, Rounding rounding) {
  constexpr int64_t kChunk = 1 << 22;  // values
  struct Chunk {
    int tensor;
    int64_t first, count, offset;
  };
  const Tensors tensors = random_weights::tensors_of(config);
  std::vector<Chunk> chunks;
  int64_t offset = sizeof(Shape);
  for (int t = 0; t < kTensors; ++t)
    for (int64_t first = 0; first < tensors.at[t].count; first += kChunk) {
      const int64_t rest = tensors.at[t].count - first, count = rest < kChunk ? rest : kChunk;
      chunks.push_back({t, first, count, offset});
      offset += 4 * count;
    }

  OutputFile file(path, offset);
  int error = file.write_at(&config, sizeof config, 0);
  const bool progress = isatty(STDERR_FILENO);
  const auto start = std::chrono::steady_clock::now();
  double shown = 0;
  int64_t written = 0;
  const int64_t n_chunks = static_cast<int64_t>(chunks.size());
#pragma omp parallel
  {
    std::vector<float> buffer(kChunk);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < n_chunks; ++i) {
      int failed;
#pragma omp atomic read
      failed = error;
      if (failed) continue;
      const Chunk &c = chunks[static_cast<size_t>(i)];
      random_weights::fill(buffer.data(), tensors.at[c.tensor], c.tensor, c.first, c.count, seed, rounding);
      failed = file.write_at(buffer.data(), 4 * c.count, c.offset);
#pragma omp critical
      {
        if (failed) {
#pragma omp atomic write
          error = failed;
        }
        written += 4 * c.count;
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (progress && seconds - shown > 0.5) {
          shown = seconds;
          const double done = static_cast<double>(written) / static_cast<double>(offset);
          std::fprintf(stderr, "\r%s: %.0f %%, %.0f s left   ", path.c_str(), 100 * done, seconds / done - seconds);
        }
      }
    }
  }
  if (shown > 0) std::fprintf(stderr, "\r\033[K");
  file.check(error);
  file.commit();
}

// ---------------------------------------------------------------------------------------------------------------------
// Tokenizer

// What the first merges are learnt from. They make prompts shorter, in several scripts, even in a vocabulary of 512.
constexpr std::string_view kTrainingText =
    "the water in the river is cold and the wind over the hills is strong, but there is a fire in the house and "
    "there are stories to tell. when the ship returned from the north, the people on the shore were waiting with "
    "bread and lanterns, and nobody asked what the journey had cost. write a short letter to the teacher and explain "
    "why the lesson on numbers was so interesting. what is the name of the highest mountain, and how long does it take "
    "to reach the top? please list three reasons for learning another language, then give one example for each of "
    "them. this machine counts the words that you say and then returns the answer in the order in which they came. "
    "for each value in the list, return the sum of the other values; if the list is empty then print an error. "
    "das Wetter in den Bergen ist heute schlechter als gestern, und die Wanderer bleiben in der Hütte. "
    "les enfants jouent dans le jardin et la grand-mère prépare une tarte avec les pommes de la voisine. "
    "los niños cantan en la plaza mientras el sol se pone detrás de las montañas de la costa. "
    "в старом доме на берегу реки жили дедушка и бабушка, и на столе всегда стоял горячий чай. "
    "в городе было тихо, и на улице никого не было, но в окне горел свет. ";

// The words of the text, each with the space before it, as o200k's pre-tokenisation leaves them: merges cross no word.
std::vector<std::vector<std::string>> split_words(std::string_view text) {
  const auto is_letter = [](unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80; };
  std::vector<std::vector<std::string>> words;
  char previous = ' ';
  for (const char c : text) {
    const bool joins = is_letter(c) && (is_letter(previous) || previous == ' ');
    if (words.empty() || !joins) words.emplace_back();
    words.back().emplace_back(1, c);
    previous = c;
  }
  return words;
}

// Byte-pair encoding: joins the most frequent pair of neighbours (of equals, the smallest text) and repeats. Returns
// the texts of n merges, each the concatenation of two bytes or earlier merges.
std::vector<std::string> learn_merges(size_t n) {
  std::vector<std::vector<std::string>> words = split_words(kTrainingText);
  std::vector<std::string> merges;
  std::unordered_set<std::string> known;
  while (merges.size() < n) {
    std::map<std::pair<std::string, std::string>, int> counts;
    for (const auto &word : words)
      for (size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    auto best = counts.end();
    for (auto it = counts.begin(); it != counts.end(); ++it)
      if (best == counts.end() || it->second > best->second) best = it;
    if (best == counts.end()) throw Error("the training text is too short for the vocabulary");
    const auto [left, right] = best->first;
    for (auto &word : words)
      for (size_t i = 0; i + 1 < word.size(); ++i)
        if (word[i] == left && word[i + 1] == right) {
          word[i] += right;
          word.erase(word.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        }
    if (known.insert(left + right).second) merges.push_back(left + right);
  }
  return merges;
}

// Adds made-up words of one or two syllables (" ba", " banlo", ...) until the vocabulary holds n texts. Every text is
// the concatenation of two earlier ones: consonant + vowel, + final consonant, space + syllable, + second syllable.
void add_words(std::vector<std::string> *texts, size_t n) {
  std::unordered_set<std::string> known(texts->begin(), texts->end());
  const auto add = [&](const std::string &text) {
    if (texts->size() < n && known.insert(text).second) texts->push_back(text);
  };
  std::vector<std::string> open_syllables, syllables;
  for (const char consonant : std::string_view("bdfghjklmnprstvwzcxy"))
    for (const char vowel : std::string_view("aeiou")) open_syllables.push_back({consonant, vowel});
  syllables = open_syllables;
  for (const char last : std::string_view("nrslmt"))
    for (const std::string &syllable : open_syllables) syllables.push_back(syllable + last);
  for (const std::string &syllable : syllables) add(syllable);
  for (const std::string &syllable : syllables) add(" " + syllable);
  for (const std::string &second : syllables)
    for (const std::string &first : syllables) add(" " + first + second);
  if (texts->size() < n) throw Error("too few syllables for the vocabulary");
}

std::string special_token(int id) {
  switch (id) {  // o200k_harmony
    case 199998:
      return "<|startoftext|>";
    case 199999:
      return "<|endoftext|>";
    case 200002:
      return "<|return|>";
    case 200003:
      return "<|constrain|>";
    case 200005:
      return "<|channel|>";
    case 200006:
      return "<|start|>";
    case 200007:
      return "<|end|>";
    case 200008:
      return "<|message|>";
    case 200012:
      return "<|call|>";
    default:
      return "<|reserved_" + std::to_string(id) + "|>";
  }
}

// tokenizer.bin: 256 byte tokens, merges, and, in the full vocabulary, harmony's special tokens at their ids.
void write_tokenizer(const std::string &path, int vocab_size) {
  constexpr int kFirstSpecial = 199998;
  const size_t ordinary = static_cast<size_t>(vocab_size < kFirstSpecial ? vocab_size : kFirstSpecial);
  constexpr size_t kLearnt = 256;
  std::vector<std::string> texts;
  for (int byte = 0; byte < 256; ++byte) texts.push_back(byte ? std::string(1, static_cast<char>(byte)) : "<0x00>");
  for (std::string &merge : learn_merges(kLearnt)) texts.push_back(std::move(merge));
  if (ordinary > texts.size()) add_words(&texts, ordinary);
  for (int id = kFirstSpecial; id < vocab_size; ++id) texts.push_back(special_token(id));

  int32_t longest = 0;
  std::string bytes(4, '\0');
  const auto append = [&bytes](const auto &value) {
    bytes.append(reinterpret_cast<const char *>(&value), sizeof value);
  };
  for (size_t id = 0; id < texts.size(); ++id) {
    const int32_t length = static_cast<int32_t>(texts[id].size());
    longest = length > longest ? length : longest;
    append(id < ordinary ? static_cast<float>(id) : -1e30f);
    append(length);
    bytes += texts[id];
  }
  std::memcpy(&bytes[0], &longest, 4);

  OutputFile file(path, static_cast<int64_t>(bytes.size()));
  file.check(file.write_at(bytes.data(), static_cast<int64_t>(bytes.size()), 0));
  file.commit();
}

// ---------------------------------------------------------------------------------------------------------------------

constexpr const char *kHelp =
    "usage: make_model tiny|7m|20b|120b -o model.bin [-z tokenizer.bin] [--seed N] [--mxfp4|--bf16|--fp32]\n"
    "\n"
    "Writes a random gpt-oss model in the harness's format.\n"
    "  tiny|7m|20b|120b   shape: 4.8 MB, 53 MB, 83.7 GB, 467 GB\n"
    "  -o FILE            the model\n"
    "  -z FILE            also a tokenizer for its vocabulary: bytes, merges, made-up words, harmony's special tokens\n"
    "  --seed N           0 .. 2^64 - 1, default 1; a seed gives the same bytes everywhere\n"
    "  --mxfp4            weights as released models have them, stored as FP32: the experts' matrices are rounded to "
    "what\n"
    "                     MXFP4 holds, all else to BF16 (default for 20b and 120b)\n"
    "  --bf16             every weight is rounded to BF16 (default for tiny and 7m)\n"
    "  --fp32             arbitrary FP32 weights";

void run(int argc, char **argv) {
  std::string model, tokenizer;
  uint64_t seed = 1;
  bool mxfp4 = false, bf16 = false, fp32 = false;
  const Arguments arguments(kHelp);
  const std::vector<std::string> operands =
      arguments.parse(argc, argv,
                      {{"o", &model},
                       {"z", &tokenizer},
                       {"seed", [&](const Argument &value) { seed = value.number(uint64_t{0}, UINT64_MAX); }},
                       {"mxfp4", &mxfp4},
                       {"bf16", &bf16},
                       {"fp32", &fp32}});
  if (operands.empty()) arguments.refuse("which shape?");
  if (operands.size() > 1) arguments.refuse("unknown argument '" + operands[1] + "'");
  const Shape *const shape = find_shape(operands[0]);
  if (!shape) arguments.refuse("unknown shape '" + operands[0] + "'");
  if (mxfp4 + bf16 + fp32 > 1) arguments.refuse("--mxfp4, --bf16 and --fp32 exclude each other");
  if (model.empty()) arguments.refuse("-o is missing");
  if (model == tokenizer) arguments.refuse("-o and -z name the same file '" + model + "': give two");
  if (shape == &k20b || shape == &k120b) mxfp4 = !bf16 && !fp32;

  struct sigaction action = {};
  action.sa_handler = on_signal;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit then is a write error like any other

  if (!tokenizer.empty()) write_tokenizer(tokenizer, shape->vocab_size);
  write_model(model, *shape, seed, fp32 ? Rounding::kNone : mxfp4 ? Rounding::kMxfp4 : Rounding::kBf16);
}

int main(int argc, char **argv) {
  try {
    run(argc, argv);
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "make_model: %s\n", error.what());
    return 1;
  }
}
