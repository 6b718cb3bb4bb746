// Command lines of the C++ tools: getopt_long, errors in one line, numbers with bounds.
#pragma once

#include <getopt.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "../hip/whole_number.hpp"

class Arguments;

// An option's value or an operand, under the name that an error gives it.
struct Argument {
  const Arguments &all;
  std::string name, text;

  // A whole number within [low, high]; low is not negative.
  template <class T>
  T number(T low, T high) const;
};

class Arguments {
 public:
  // An option of one letter (-o) or more (--seed), and where its value goes; a flag has none.
  struct Option {
    const char *name;
    bool has_value;
    std::function<void(const Argument &)> take;

    Option(const char *name, std::function<void(const Argument &)> take)
        : name(name), has_value(true), take(std::move(take)) {}
    Option(const char *name, std::string *text)
        : Option(name, [text](const Argument &value) {
            if (value.text.empty()) value.all.refuse(value.name + " needs a value that is not empty");
            *text = value.text;
          }) {}
    Option(const char *name, bool *flag) : name(name), has_value(false), take([flag](auto &) { *flag = true; }) {}
  };

  // help: "usage: NAME ..." in one line, which errors show too, then whatever else -h prints.
  explicit Arguments(const char *help) : help_(help), usage_(help, strcspn(help, "\n")) {}

  // Takes the options wherever they stand; returns the operands. -h and --help print the help and end the program.
  std::vector<std::string> parse(int argc, char **argv, const std::vector<Option> &options) const {
    constexpr int kLong = 256;   // option i of more than a letter is this + i to getopt
    std::string letters = ":h";  // the colon: getopt prints nothing
    std::vector<option> names;
    for (size_t i = 0; i < options.size(); i++) {
      const Option &each = options[i];
      if (strlen(each.name) == 1)
        letters += std::string(each.name) + (each.has_value ? ":" : "");
      else
        names.push_back({each.name, each.has_value ? required_argument : no_argument, nullptr, kLong + (int)i});
    }
    const int help = kLong + (int)options.size();
    names.push_back({"help", no_argument, nullptr, help});
    names.push_back({});
    for (int found; (found = getopt_long(argc, argv, letters.c_str(), names.data(), nullptr)) != -1;) {
      if (found == 'h' || found == help) {
        puts(help_);
        exit(0);
      }
      const int about = found == '?' || found == ':' ? optopt : found;  // 0: a long option that is none
      const std::string shown = about > 0 && about < kLong ? std::string{'-', (char)about} : argv[optind - 1];
      if (found == '?') refuse("unknown argument '" + shown + "'");
      if (found == ':') refuse(shown + " needs a value");
      for (size_t i = 0; i < options.size(); i++)
        if (found == (strlen(options[i].name) == 1 ? options[i].name[0] : kLong + (int)i))
          options[i].take({*this, std::string(found < kLong ? "-" : "--") + options[i].name, optarg ? optarg : ""});
    }
    return {argv + optind, argv + argc};
  }

  // One line on stderr, exit code 1.
  [[noreturn]] void refuse(const std::string &what) const {
    const size_t name = strlen("usage: ");
    fprintf(stderr, "%s: %s; %s\n", usage_.substr(name, usage_.find(' ', name) - name).c_str(), what.c_str(),
            usage_.c_str());
    exit(1);
  }

 private:
  const char *help_;
  std::string usage_;
};

template <class T>
T Argument::number(T low, T high) const {
  uint64_t value = 0;
  if (!getp_hip::read_number(text, (uint64_t)low, (uint64_t)high, value))
    all.refuse(name + " '" + text + "': expected a number from " + std::to_string(low) + " to " + std::to_string(high));
  return (T)value;
}
